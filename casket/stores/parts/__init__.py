"""A JSON file on a file system without locks: its records are in files beside it."""
