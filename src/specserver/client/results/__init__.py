"""The body of an answer as arrays, objects and files."""
