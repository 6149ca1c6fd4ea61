"""Real servers on loopback for the tests, each started once for a process and stopped at its end.

Nothing is left behind: data lie in a temporary folder.
"""
