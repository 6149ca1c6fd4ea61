"""The `casket` command; a file for each group of commands, and `app` that finds them."""
