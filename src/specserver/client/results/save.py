"""Spectra → files, one each, named as on the server, written while the rest still travels."""

import os
import re
import secrets
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from ...errors import BadParameter, StoreError
from ...model.spacename import in_space
from ...wire.batches import ANSWER
from ...wire.columns import NAME
from .convert import convert_one

if TYPE_CHECKING:
    from .decode import Spectra

_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_FITS_ENDING: Final = re.compile(r"\.(?:fits|fit|fts)(?:\.gz)?$", re.IGNORECASE)
_ENDINGS: Final = {"numpy": ".npy", "pandas": ".csv", "table": ".ecsv"}
_FILE_ENDINGS: Final = (".npy", ".csv", ".ecsv", ".fits", ".fits.gz")


class Target(Protocol):
    """Where files go."""

    def put(self, name: str, data: bytes) -> None:
        """Keep a file under a name without folders; a file of that name is replaced."""


class Folder:
    """A folder of this machine, made when the first file comes.

    A file appears under its name when it is whole, and not before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise BadParameter("out", str(path), "that is a file; name a folder")

    def put(self, name: str, data: bytes) -> None:
        """Write a file."""
        self.path.mkdir(parents=True, exist_ok=True)
        replace_file(self.path / name, [data])


class OneFile:
    """A file of this machine, under the name that the caller gave to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir():
            raise BadParameter("out", str(path), "name a file, not a folder")
        if not path.parent.is_dir():
            raise BadParameter("out", str(path), f"there is no folder {path.parent}")

    def put(self, name: str, data: bytes) -> None:
        """Write the file; the server's name is not used."""
        del name
        replace_file(self.path, [data])


def replace_file(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file so that readers see all of it or what was there before."""
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            file.writelines(pieces)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def open_target(
    out: str | os.PathLike[str], space: Callable[[str], Target], *, single: bool
) -> Target:
    """Return where the files of ``out`` go.

    Parameters
    ----------
    out
        A folder, which is made when it is not there; a folder in virtual storage,
        ``vos://dir/``; for one spectrum also a file with one of the usual endings.
    space
        Opens a folder of virtual storage by its name.
    single
        Whether exactly one spectrum is asked for.
    """
    text = os.fspath(out)
    if in_space(text):
        return space(text)
    path = Path(text).expanduser()
    if single and not path.is_dir() and path.name.lower().endswith(_FILE_ENDINGS):
        return OneFile(path)
    return Folder(path)


def put_spectra(spectra: "Spectra", fmt: str, target: Target) -> None:
    """Write the spectra of a batch, a file each."""
    for index, record in enumerate(spectra.data):
        stem = _FITS_ENDING.sub("", safe_name(str(spectra.columns[NAME][index])))
        ending = _ENDINGS.get(fmt, ".fits")
        target.put(stem + ending, _encoded(spectra, index, record, fmt))


def safe_name(name: str) -> str:
    """Return a name from the wire when it is one of a plain file."""
    if not _SAFE_NAME.fullmatch(name):
        raise StoreError(ANSWER, f"damaged: {name!r} is no name of a file")
    return name


def _encoded(spectra: "Spectra", index: int, record: Any, fmt: str) -> bytes:
    """Return the content of a spectrum's file."""
    out = BytesIO()
    if fmt == "numpy":
        np.save(out, record, allow_pickle=False)
        return out.getvalue()
    made = convert_one(spectra, index, record, fmt)
    if fmt == "pandas":
        text: str = made.to_csv(index=False)
        return text.encode()
    if fmt == "table":
        from io import StringIO

        lines = StringIO()
        made.write(lines, format="ascii.ecsv")
        return lines.getvalue().encode()
    # A pixel without information has ivar 0: its standard deviation, as the file has it, is inf.
    with np.errstate(divide="ignore"):
        made.write(out, format="tabular-fits", update_header=True)
    return out.getvalue()
