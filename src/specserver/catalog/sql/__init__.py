"""The condition of a caller: read, checked, and handed on."""
