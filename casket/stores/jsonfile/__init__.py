"""The JSON file."""
