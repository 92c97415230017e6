"""The version of condense, in this one place."""

__version__ = "0.1.0"
DISTRIBUTION = "condense-data"  # what pip calls it: `condense` is another project on PyPI
