"""What a database may do while it follows a data folder."""

from enum import Enum


class Following(Enum):
    """What a synchronisation may do to a table that has more than the data folder shows."""

    BY_ITSELF = "by itself"
    """It goes back to an older version only after a time in which the newest would be seen."""
    ASKED = "asked"
    """A command says that the data folder is as it is to be."""
    REPLACING = "replacing"
    """The table may be of another data folder, too."""
