"""A service of a few lines: says who it is, then does what it is told."""
