"""One reader for each kind of source, all to the same `RawData`: folders, arrays, Datasets, the hub, known sets.

`condense.data.load` chooses the reader; what follows (size, memory, preprocessing, fingerprint) is the same for all.
"""
