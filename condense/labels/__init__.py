"""Labels beyond the class index."""
