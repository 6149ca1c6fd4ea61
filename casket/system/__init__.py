"""The machine: processes, forks, git, and what must not be told."""
