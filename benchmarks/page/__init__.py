"""The page of a benchmark: one self-contained HTML file that settles a comparison, and the same tables in other forms."""

from benchmarks.panels import Panel
from benchmarks.page.published import Published
from benchmarks.page.content import page_path, write_page

__all__ = ["Panel", "Published", "page_path", "write_page"]
