"""Names of the files of spectra: those of the original files, and no two the same."""

from typing import Final

import numpy as np

from .columns import recorded
from .selection import Selection, by_context, part_of

_FITS: Final = frozenset({".fits", ".fit", ".fts"})


def file_names(selection: Selection, *, rebuilt: bool = False) -> list[str]:
    """Return the name of the file of each spectrum; of several contexts, no name twice.

    A file is named as in its context alone (`_names_within`); where another context has one of
    that name already, the name of the context comes before it.

    Parameters
    ----------
    rebuilt : name FITS files that are made of the spectra, whatever the form of the originals
    """
    names = [""] * selection.nspec
    owners: dict[str, str] = {}
    for part, places in by_context(selection):
        context = part.contexts[0]
        held = _names_within(part)
        own = map(_as_fits, held) if rebuilt else held
        for place, name in zip(places.tolist(), own, strict=True):
            owner = owners.setdefault(name, context)
            names[place] = name if owner == context else f"{context}-{name}"
    return names


def _names_within(selection: Selection) -> list[str]:
    """Return the name of the file of each spectrum of one context, that of the original.

    Where two spectra would share one, such as two reductions of the same plate, MJD and fibre,
    both get ``-<reduction>`` in it, or ``-<identifier>`` where that does not part them. Where files
    hold many spectra, all have ``-<identifier>``.
    """
    names = [path.replace("\\", "/").rpartition("/")[2] for path in _values(selection, "_source")]
    parted = [split_name(name) for name in names]
    if selection.survey.many_per_file:
        ids = selection.ids.tolist()
        parted = [(f"{stem}-{id_}", end) for (stem, end), id_ in zip(parted, ids, strict=True)]
        names = [stem + ending for stem, ending in parted]
    clashing = _shared(selection, [stem for stem, _ in parted])
    if not clashing:
        return names
    reductions = _values(part_of(selection, np.array(clashing)), selection.survey.id_parts[-1])
    longer = {
        index: f"{parted[index][0]}-{reduction}"
        for index, reduction in zip(clashing, reductions, strict=True)
    }
    still = set(_shared(selection, [longer.get(index, "") for index in range(len(names))]))
    for index, stem in longer.items():
        own = f"{parted[index][0]}-{selection.ids[index]}" if index in still else stem
        names[index] = own + parted[index][1]
    return names


def _as_fits(name: str) -> str:
    """Return the name of a FITS file, not compressed, in place of a file of any form."""
    stem, ending = split_name(name)
    plain = ending[:-3] if ending.lower().endswith(".gz") else ending
    return stem + (plain if plain.lower() in _FITS else ".fits")


def split_name(name: str) -> tuple[str, str]:
    """Return a file's name in two: before the ending, and the ending with ``.gz``."""
    plain = name[:-3] if name.lower().endswith(".gz") else name
    stem, dot, ending = plain.rpartition(".")
    return (stem, dot + ending + name[len(plain) :]) if stem else (plain, name[len(plain) :])


def _shared(selection: Selection, stems: list[str]) -> list[int]:
    """Return the indices of spectra whose stem another spectrum has too; not of empty ones."""
    owners: dict[str, tuple[int, int]] = {}
    shared: set[str] = set()
    places = zip(selection.source_index.tolist(), selection.catalogue_row.tolist(), strict=True)
    for stem, place in zip(stems, places, strict=True):
        if stem and owners.setdefault(stem, place) != place:
            shared.add(stem)
    return [index for index, stem in enumerate(stems) if stem in shared]


def _values(selection: Selection, column: str) -> list[str]:
    """Return a recorded column of the spectra as text."""
    return [str(value) for value in recorded(selection, [column]).column(column).to_pylist()]
