"""The dashboard: a page that shows experiment files, and the report that is the same page."""
