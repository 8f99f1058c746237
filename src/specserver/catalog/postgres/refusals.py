"""Why a database cannot be used, in words that tell visitors nothing of its address."""

import re
from typing import Final

_NOT_LET_IN: Final = {
    "no password supplied": "wants a password: set PGPASSWORD, or ~/.pgpass",
    "password authentication failed": "refuses the password: see PGPASSWORD and ~/.pgpass",
    "no pg_hba.conf entry": "lets nobody in from here: see pg_hba.conf",
    'role "[^"]*" does not exist': "has no such user: see the URL",
    'database "[^"]*" does not exist': "is not there: see the URL, or make it (createdb)",
}
"""What a server says that does not let one in, which has no state, and what to do."""


def why_away(error: Exception | None) -> str:
    """Return why a database cannot be used, as a predicate such as 'cannot be reached'."""
    whys = (why for sign, why in _NOT_LET_IN.items() if re.search(sign, str(error)))
    return next(whys, "cannot be reached")
