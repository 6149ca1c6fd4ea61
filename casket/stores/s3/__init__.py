"""S3 and servers with its interface: an object per append."""
