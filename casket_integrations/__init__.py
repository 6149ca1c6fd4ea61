"""Adapters that convert events of machine-learning frameworks into sessions, epochs and results."""
