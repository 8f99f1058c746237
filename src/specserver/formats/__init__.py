"""Structures as bytes of a media type: `registry` knows which function writes or reads which."""
