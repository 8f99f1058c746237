"""Limits of a condition, set by the time and memory of the parser and the database's planner."""

from typing import Final

MAX_LIST: Final = 10_000
"""Values in one IN list; for more, a request takes a list of identifiers."""
MAX_NODES: Final = 5_000
"""Operators, columns and literals outside IN lists; planning time grows with their square."""
MAX_LEVELS: Final = 40
"""Operators inside each other; a chain of AND or of OR counts as one. Each takes stack."""
MAX_GROUPS: Final = 100
"""Chains of AND or OR, as each of ``(z > 1 OR z < 2) AND (…)`` is: 100 of them take the planner
30 MB and half a second, 620 of them 850 MB and 11 s, which no memory limit of the database bounds.
"""
MAX_ORDER: Final = 20
"""Columns to order by: a row takes memory for each while it is sorted."""
