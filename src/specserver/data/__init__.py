"""The data folder: the names of all its files, and the one way to read and write them."""
