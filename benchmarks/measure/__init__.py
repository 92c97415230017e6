"""Commands that measure condense itself; each writes JSON that is committed below `benchmarks/results`."""
