"""The description of a folder in virtual storage."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class SpaceEntry:
    """A file or folder in virtual storage."""

    name: str
    is_folder: bool
    nbytes: int
    modified: datetime

    def to_json(self) -> dict[str, Any]:
        """Return the entry as a JSON object."""
        return asdict(self) | {"modified": self.modified.isoformat(timespec="seconds")}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Read an entry from a JSON object."""
        modified = datetime.fromisoformat(said["modified"])
        return cls(said["name"], said["is_folder"], said["nbytes"], modified)


@dataclass(frozen=True, slots=True)
class SpaceUsage:
    """Used part of the quota."""

    nbytes: int
    nbytes_limit: int
    nentries: int
    nentries_limit: int
    """Files and folders."""


@dataclass(frozen=True, slots=True)
class SpaceListing:
    """What a folder holds, and how much of the quota is used."""

    path: str
    entries: tuple[SpaceEntry, ...]
    usage: SpaceUsage

    def to_json(self) -> dict[str, Any]:
        """Return the listing as a JSON object."""
        entries = [entry.to_json() for entry in self.entries]
        return {"path": self.path, "entries": entries, **asdict(self.usage)}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Read a listing from a JSON object."""
        usage = SpaceUsage(*(said[name] for name in SpaceUsage.__slots__))
        return cls(said["path"], tuple(map(SpaceEntry.from_json, said["entries"])), usage)
