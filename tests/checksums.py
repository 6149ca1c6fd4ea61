"""Files edited by hand."""

import re


def without_checksums(text: str) -> str:
    """Return the text of a JSON file as people leave it who edit its records."""
    return re.sub(r',"crc":[0-9]+', "", text)
