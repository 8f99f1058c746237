"""How fast specserver is, as ratios to references measured in the same run."""
