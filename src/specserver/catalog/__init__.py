"""What exists and where: object tables, the index over them, and questions to it."""
