"""Virtual storage: the user's own files on the server."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ..errors import BadParameter, StoreError
from ..model.spacename import split_file_name, split_name
from .session import Session

_PIECE: Final = 2**20

Data = bytes | bytearray | memoryview | str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class SpaceEntry:
    """A file or folder in virtual storage."""

    name: str
    is_folder: bool
    nbytes: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class SpaceUsage:
    """How much of the quota is used."""

    nbytes: int
    nbytes_limit: int
    nentries: int
    nentries_limit: int
    """Files and folders."""


class SpaceFolder:
    """A folder of a space, to put files into."""

    def __init__(self, space: "Storage", name: str, token: str | None) -> None:
        self._space = space
        self._token = token
        self.name = "/".join(split_name(name))

    def put(self, name: str, data: bytes) -> None:
        """Keep a file under a name in the folder; a file of that name is replaced."""
        self._space.put(f"{self.name}/{name}" if self.name else name, data, token=self._token)


class Storage:
    """The space of whoever the token names; ``vos://`` before a name may be left out.

    Parameters
    ----------
    session
        The service, and connections to it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def ls(self, path: str = "", *, token: str | None = None) -> list[str]:
        """Return the names in a folder, those of folders with a slash at the end."""
        return [one.name + "/" * one.is_folder for one in self.entries(path, token=token)]

    def entries(self, path: str = "", *, token: str | None = None) -> list[SpaceEntry]:
        """Return what a folder holds: names, sizes, times."""
        return [
            SpaceEntry(
                one["name"],
                one["is_folder"],
                one["nbytes"],
                datetime.fromisoformat(one["modified"]),
            )
            for one in self._list(path, token)["entries"]
        ]

    def usage(self, *, token: str | None = None) -> SpaceUsage:
        """Return how much of the quota is used."""
        told = self._list("", token)
        names = ("nbytes", "nbytes_limit", "nentries", "nentries_limit")
        return SpaceUsage(*(told[name] for name in names))

    def get(
        self,
        name: str,
        out: str | os.PathLike[str] | None = None,
        *,
        token: str | None = None,
    ) -> Any:
        """Return the bytes of a file, or write them to the local file ``out`` and return ``'OK'``.

        Raises
        ------
        NoSuchFile
            There is none of that name.
        """
        url = self._url_of(split_file_name(name))
        target = None if out is None else Path(out).expanduser()
        if target is not None and not target.parent.is_dir():
            raise BadParameter("out", str(out), f"there is no folder {target.parent}")
        with self._session.get(url, token=token) as body:
            pieces: Iterator[bytes] = iter(lambda: bytes(body.read(_PIECE)), b"")
            if target is None:
                return b"".join(pieces)
            from .results.save import replace_file

            replace_file(target, pieces)
        return "OK"

    def read_text(self, name: str, *, token: str | None = None) -> str:
        """Return a file as text."""
        data: bytes = self.get(name, token=token)
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise BadParameter("name", name, "the file is no text") from None

    def put(self, name: str, data: Data, *, token: str | None = None) -> str:
        """Keep bytes, or the local file that ``data`` names, under a name; return ``'OK'``.

        Folders above it are made. A file of that name is replaced, when the new one is whole.

        Raises
        ------
        QuotaExceeded
            There is no room.
        """
        parts = split_file_name(name)
        with _opened(data) as source:
            sha256 = hashlib.file_digest(source, "sha256").hexdigest()
            nbytes = source.seek(0, os.SEEK_END)
            source.seek(0)
            said = self._session.get_text(
                self._url_of(parts), method="PUT", body=source, nbytes=nbytes, token=token
            )
        if json.loads(said)["sha256"] != sha256:
            raise StoreError(name, "the server got other bytes than were sent; put it again")
        return "OK"

    def mkdir(self, name: str, *, token: str | None = None) -> str:
        """Make a folder and those above it; return ``'OK'``."""
        url = self._url_of(split_name(name)) + "/"
        self._session.get_text(url, method="PUT", body=b"", token=token)
        return "OK"

    def rm(self, name: str, *, recursive: bool = False, token: str | None = None) -> str:
        """Remove a file or an empty folder, with ``recursive`` also a full one; return ``'OK'``."""
        parts = split_name(name)
        if not parts:
            raise BadParameter("name", name, "name a file or a folder")
        fields = {"recursive": "true"} if recursive else None
        self._session.get_text(self._url_of(parts), fields, method="DELETE", token=token)
        return "OK"

    def folder(self, name: str, *, token: str | None = None) -> SpaceFolder:
        """Return a folder to put files into; it is made with its first file."""
        return SpaceFolder(self, name, token)

    def _list(self, path: str, token: str | None) -> dict[str, Any]:
        asked = {"path": "/".join(split_name(path))}
        told: dict[str, Any] = json.loads(
            self._session.get_text(self._session.url("vos"), asked, token=token)
        )
        return told

    def _url_of(self, parts: tuple[str, ...]) -> str:
        return self._session.url("/".join(["vos", *(quote(part, safe="") for part in parts)]))


def _opened(data: Data) -> BufferedReader | BytesIO:
    """Return bytes, or the local file of a name, as an open file."""
    if not isinstance(data, str | os.PathLike):
        return BytesIO(data)
    path = Path(data).expanduser()
    try:
        return path.open("rb")
    except OSError as error:
        reason = f"the file cannot be read ({error.strerror}); give a file's name, or bytes"
        raise BadParameter("data", str(path), reason) from error
