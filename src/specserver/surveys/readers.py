"""The readers of files that an ingest has: those of surveys, our own, and those of specutils."""

from collections.abc import Iterator
from dataclasses import dataclass

from . import load_surveys
from .declaration import COLUMNS, SPECUTILS


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
            _sentence(loader.__doc__ or "") or f"{name} files",
            detected=row["Auto-identify"] == "Yes",
            use=f"NEW_NAME DIR --reader specutils --loader {name!r}",
        )


def _sentence(text: str) -> str:
    """Return the first sentence of a docstring."""
    head, _, _ = " ".join(text.split()).partition(" Parameters ")
    return head.partition(". ")[0].rstrip(".")
