"""Methods that learn images, one file each, and what several of them share."""
