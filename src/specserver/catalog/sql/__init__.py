"""The condition of a caller, read and checked."""
