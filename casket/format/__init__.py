"""What stands in a file: records, values, arrays, artifacts, and the first casket's form."""
