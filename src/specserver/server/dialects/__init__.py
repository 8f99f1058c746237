"""One dialect of HTTP requests each: a module that has a ``router``."""
