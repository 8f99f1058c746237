"""Identifiers, positions and regions that a caller gives, as a request has them."""
