"""Storage of a caller's files: virtual storage on the server, and this machine."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from typing_extensions import override

from ..errors import BadParameter, StoreError
from ..model.spacename import in_space, split_file_name, split_name
from ..tracebacks import short_methods
from ..wire.media_types import OCTETS
from ..wire.storage import SpaceEntry, SpaceListing, SpaceUsage
from .session import Session

_PIECE: Final = 2**20
_FMT_OF: Final = {".npy": "numpy", ".csv": "pandas", ".ecsv": "table", ".fits": "fits"}
_SPECTRUM_ENDINGS: Final = (*_FMT_OF, ".fits.gz", ".txt", ".dat")

Data = bytes | bytearray | memoryview | str | os.PathLike[str]
Put = Callable[[str, bytes], object]
"""Keeps a file under a name without folders; a file of that name is replaced."""


@short_methods
class Storage:
    """The space of the user whom the token names; ``vos://`` before a name may be left out.

    Examples
    --------
    >>> vos = spec.vos
    >>> vos.put("lists/stars.txt", b"299489676975171584")
    'OK'
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @override
    def __repr__(self) -> str:
        return f"<Storage vos:// of {self._session}>"

    def ls(self, path: str = "", *, token: str | None = None) -> list[str]:
        """Return the names in a folder, those of folders with a slash at the end.

        Examples
        --------
        >>> spec.vos.mkdir("lists")
        'OK'
        >>> "lists/" in spec.vos.ls()
        True
        """
        return [entry.name + "/" * entry.is_folder for entry in self.entries(path, token=token)]

    def entries(self, path: str = "", *, token: str | None = None) -> list[SpaceEntry]:
        """Return what a folder holds: names, sizes, times.

        Examples
        --------
        >>> spec.vos.put("note.txt", b"seen")
        'OK'
        >>> [entry.nbytes for entry in spec.vos.entries() if entry.name == "note.txt"]
        [4]
        """
        return list(self._list(path, token).entries)

    def usage(self, *, token: str | None = None) -> SpaceUsage:
        """Return how much of the quota is used.

        Examples
        --------
        >>> spec.vos.usage().nbytes_limit > 1e9
        True
        """
        return self._list("", token).usage

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

        Examples
        --------
        >>> spec.vos.put("note.txt", b"seen")
        'OK'
        >>> spec.vos.get("note.txt")
        b'seen'
        """
        url = self._url_of(split_file_name(name))
        target = None if out is None else local_file(out)
        with self._session.send("GET", url, token=token) as body:
            pieces: Iterator[bytes] = iter(lambda: bytes(body.read(_PIECE)), b"")
            if target is None:
                return b"".join(pieces)
            write_output(target, pieces)
        return "OK"

    def read_text(self, name: str, *, token: str | None = None) -> str:
        """Return a file as text.

        Examples
        --------
        >>> spec.vos.put("note.txt", b"seen")
        'OK'
        >>> spec.vos.read_text("note.txt")
        'seen'
        """
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

        Examples
        --------
        >>> spec.vos.put("lists/stars.txt", b"299489676975171584")
        'OK'
        """
        parts = split_file_name(name)
        with _opened(data) as source:
            sha256 = hashlib.file_digest(source, "sha256").hexdigest()
            nbytes = source.seek(0, os.SEEK_END)
            source.seek(0)
            headers = {"Content-Type": OCTETS, "Content-Length": str(nbytes)}
            said = self._session.get_text(
                self._url_of(parts), "PUT", body=source, headers=headers, token=token
            )
        if json.loads(said)["sha256"] != sha256:
            raise StoreError(name, "the server got other bytes than were sent; put it again")
        return "OK"

    def mkdir(self, name: str, *, token: str | None = None) -> str:
        """Make a folder and those above it; return ``'OK'``.

        Examples
        --------
        >>> spec.vos.mkdir("lists/quasars")
        'OK'
        """
        url = self._url_of(split_name(name)) + "/"
        self._session.get_text(url, "PUT", body=b"", token=token)
        return "OK"

    def rm(self, name: str, *, recursive: bool = False, token: str | None = None) -> str:
        """Remove a file or an empty folder, with ``recursive`` also a full one; return ``'OK'``.

        Examples
        --------
        >>> spec.vos.put("old/note.txt", b"seen")
        'OK'
        >>> spec.vos.rm("old", recursive=True)
        'OK'
        """
        parts = split_name(name)
        if not parts:
            raise BadParameter("name", name, "name a file or a folder")
        fields = {"recursive": "true"} if recursive else None
        self._session.get_text(self._url_of(parts), "DELETE", fields=fields, token=token)
        return "OK"

    def _list(self, path: str, token: str | None) -> SpaceListing:
        asked = {"path": "/".join(split_name(path))}
        said = self._session.get_text(self._session.url("vos"), fields=asked, token=token)
        return SpaceListing.from_json(json.loads(said))

    def _url_of(self, parts: tuple[str, ...]) -> str:
        return self._session.url("/".join(["vos", *(quote(part, safe="") for part in parts)]))


def read_ending(out: str | os.PathLike[str], endings: Iterable[str]) -> str:
    """Return the ending of a file's name in lower case.

    Raises
    ------
    BadParameter
        It is none of ``endings``; where the empty one is among them, a name may have none.
    """
    name = file_name(out)
    ending = Path(name).suffix.lower()
    allowed = tuple(dict.fromkeys(endings))
    if ending not in allowed:
        some = ", ".join(filter(None, allowed))
        none = ", or in none of its own" if "" in allowed else ""
        raise BadParameter("out", name, f"a name that ends in {some}{none}")
    return ending


def open_file(
    session: Session, out: str | os.PathLike[str], token: str | None
) -> Callable[[bytes], object]:
    """Return a function that writes the file ``out``, here or in virtual storage.

    Raises
    ------
    BadParameter
        No file can have that name. Raised before anything is fetched or drawn.
    """
    name = file_name(out)
    if in_space(name):
        split_file_name(name)
        return partial(Storage(session).put, name, token=token)
    path = local_file(name)
    return lambda data: write_output(path, [data])


def open_target(
    session: Session, out: str | os.PathLike[str], token: str | None, ending: str, *, single: bool
) -> Put:
    """Return a function that keeps the files of ``out``.

    Parameters
    ----------
    out
        A folder, which is made with its first file; a folder in virtual storage,
        ``vos://dir/``; for one spectrum also a file with this ending.
    ending
        Of the files of one spectrum: ``.npy``, ``.csv``, ``.ecsv`` or ``.fits``.
    single
        Whether exactly one spectrum is asked for.
    """
    text = file_name(out)
    if in_space(text):
        space, parts = Storage(session), split_name(text)
        return lambda name, data: space.put("/".join((*parts, name)), data, token=token)
    path = Path(text).expanduser()
    is_file = not path.is_dir() and path.name.lower().endswith(_SPECTRUM_ENDINGS)
    if is_file and not (single and ending in "".join(path.suffixes[-2:]).lower()):
        allowed = f"in this fmt each spectrum is a file {ending}: name a folder"
        one = ", or a file with this ending" if single else ""
        fmt = _FMT_OF.get(path.suffix.lower(), "") if single else ""
        other = f", or give fmt={fmt!r}" if fmt else ""
        raise BadParameter("out", text, allowed + one + other, f"fmt={fmt!r}")
    if is_file:
        write = open_file(session, path, token)
        return lambda _, data: write(data)
    if path.exists() and not path.is_dir():
        raise BadParameter("out", text, "that is a file; name a folder")

    def put(name: str, data: bytes) -> None:
        path.mkdir(parents=True, exist_ok=True)
        write_output(path / name, [data])

    return put


def file_name(out: object) -> str:
    """Return the name of a file or folder; raise `BadParameter` for what is none."""
    if not isinstance(out, str | os.PathLike):
        raise BadParameter("out", out, "the name of a file or folder")
    return str(os.fspath(out)).strip()


def local_file(out: str | os.PathLike[str]) -> Path:
    """Return the path of a file to write on this machine, having checked what can be."""
    path = Path(file_name(out)).expanduser()
    if path.is_dir():
        raise BadParameter("out", str(path), "name a file, not a folder")
    if not path.parent.is_dir():
        raise BadParameter("out", str(path), f"there is no folder {path.parent}")
    return path


def write_output(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file that a user names: readers see all of it or what was there before.

    Unlike `files.replace_file`, which is for the data folder, this writes into a link, a device or
    a pipe, such as ``/dev/stdout``, and does not wait for the disk.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        with path.open("wb") as file:
            file.writelines(pieces)
        return
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            file.writelines(pieces)
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(part):
            error.filename = str(path)
        raise


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
