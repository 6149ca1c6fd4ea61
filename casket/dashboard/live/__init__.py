"""The files of a dashboard, watched for changes."""
