"""Synthetic sets: their content, HDF5 form, spaces and decoders, and their ways in and out of other forms."""
