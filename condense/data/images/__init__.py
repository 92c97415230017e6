"""One image, of a file or of Pillow, to uint8 pixels: which formats, how deep, which side up, what cannot be read."""
