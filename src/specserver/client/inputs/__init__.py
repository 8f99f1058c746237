"""From what a caller holds to what a request says: identifiers, positions, regions."""
