"""Adapters that turn the events of machine-learning frameworks into sessions, epochs, results."""
