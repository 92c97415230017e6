"""Methods that work in slices: how a set is cut, how slices are run and stored, and gathered again."""
