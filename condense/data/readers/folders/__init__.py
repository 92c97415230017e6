"""Folders of image files: which files there are, to which split and class each belongs, and their pixels."""
