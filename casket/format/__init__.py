"""The file format: records, values, arrays, artifacts, and documents of the first casket."""
