"""The client: from the wire to what users compute with."""
