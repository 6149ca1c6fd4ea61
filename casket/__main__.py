"""Runs the command line: `python -m casket`."""

from casket.cli.app import main

if __name__ == "__main__":
    main()
