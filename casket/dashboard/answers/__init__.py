"""The answers to the page's requests: pure functions from views to JSON."""
