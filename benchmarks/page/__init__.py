"""The page of a benchmark: one HTML file that settles a comparison, and its tables in other forms."""

from benchmarks.page.content import page_path, write_page
from benchmarks.panels import Panel

__all__ = ["Panel", "page_path", "write_page"]
