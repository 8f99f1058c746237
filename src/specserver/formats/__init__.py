"""Structures as bytes of a media type."""
