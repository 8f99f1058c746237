"""The index over the segments of a context: made, kept and opened."""
