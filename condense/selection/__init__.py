"""Methods that choose real images, one file each, with the same interface to the user as the synthesizers."""
