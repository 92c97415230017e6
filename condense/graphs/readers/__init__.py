"""One reader for each form in which graphs come; all give `RawGraphs` or `RawNodes`, and believe nothing they read."""
