"""The data folder: the name of every path in it, and the one way to read and write it."""
