"""Removing, examining, repairing and merging."""
