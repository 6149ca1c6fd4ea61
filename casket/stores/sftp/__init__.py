"""The JSON file on another machine, over SSH."""
