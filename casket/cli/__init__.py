"""The `casket` command: one module per group of commands, and `app`, which loads them."""
