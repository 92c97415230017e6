"""HDF5 that is safe to open: one reader and one writer for every kind of file."""
