"""Operating system facilities: processes, forks, git and the redaction of secrets."""
