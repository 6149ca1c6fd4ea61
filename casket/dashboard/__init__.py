"""The dashboard: a live page of experiment files, and the report, a static copy of the page."""
