"""From the body of an answer to what a caller computes with, or to files."""
