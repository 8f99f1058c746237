"""The readers of files that an ingest has: those of surveys, our own, and those of specutils."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from . import load_surveys
from .declaration import COLUMNS, HATS, SPECUTILS

_GENERAL: Final = {
    "ASCII": "tables of text", "ECSV": "ECSV tables", "IPAC": "tables of IPAC",
    "iraf": "images of IRAF with a spectral axis", "tabular-fits": "FITS tables",
    "wcs1d-fits": "FITS images with a spectral axis",
}  # fmt: skip
"""What the loaders of no survey or instrument read."""


@dataclass(frozen=True, slots=True)
class ReaderInfo:
    """A reader of files."""

    name: str
    kind: str
    """``survey``, ``reader`` or ``loader``."""
    reads: str
    """What it reads."""
    detected: bool
    """It recognises its files by itself."""
    use: str
    """The arguments of ``specserver ingest`` that choose it."""


def list_readers() -> list[ReaderInfo]:
    """Return the readers of installed surveys, our own, and those of specutils if it is there."""
    own = [
        ReaderInfo(
            COLUMNS,
            "reader",
            "columns or images that you name, of ASCII, CSV, ECSV and FITS files",
            detected=False,
            use="NEW_NAME DIR --wave COL --flux COL [--error COL | --ivar COL]",
        ),
        ReaderInfo(
            SPECUTILS,
            "reader",
            "columns and images with the usual names, and the formats of specutils",
            detected=True,
            use="NEW_NAME DIR --reader specutils",
        ),
        ReaderInfo(
            HATS,
            "reader",
            "HATS catalogues with spectra as nested columns or lists, such as 'export hats' writes",
            detected=False,
            use="NEW_NAME DIR --reader hats [--flux LIST --wave LIST]",
        ),
    ]
    return [*_of_surveys(), *own, *_of_specutils()]


def _of_surveys() -> Iterator[ReaderInfo]:
    """Yield the readers of installed surveys."""
    for survey in load_surveys().values():
        first, last = survey.releases[0].context, survey.releases[-1].context
        contexts = first if first == last else f"{first} … {last}"
        yield ReaderInfo(
            survey.name,
            "survey",
            f"{survey.title}: {contexts}",
            detected=True,
            use=f"{last} DIR",
        )


def _of_specutils() -> Iterator[ReaderInfo]:
    """Yield the loaders of specutils; none if it is not installed."""
    try:
        from astropy.io import registry  # noqa: PLC0415  # slow to import
        from specutils import Spectrum, SpectrumList  # noqa: PLC0415
    except ImportError:
        return
    for row in registry.get_formats(SpectrumList, "Read"):
        name = str(row["Format"])
        known = registry.get_formats(Spectrum, "Read")["Format"]
        loader = registry.get_reader(name, Spectrum if name in known else SpectrumList)
        yield ReaderInfo(
            name,
            "loader",
            _reads(name, getattr(loader, "extensions", None) or ()),
            detected=row["Auto-identify"] == "Yes",
            use=f"NEW_NAME DIR --reader specutils --loader {name!r}",
        )


def _reads(name: str, endings: Iterable[str]) -> str:
    """Return what a loader reads, with the endings of its files."""
    listed = sorted({f".{ending.lower()}" for ending in endings} - {".*"})
    return _GENERAL.get(name, f"spectra of {name}") + (f" ({', '.join(listed)})" if listed else "")
