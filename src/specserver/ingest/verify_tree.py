"""The verification of a tree of original files against their fingerprints."""

from pathlib import Path
from typing import Final

from ..data.context import ContextFolder
from ..digests import NO_DIGESTS, crc_of
from ..errors import StoreError
from ..store.fits import FitsTree
from ..store.trees import read_fingerprints, read_tree
from ..surveys import find_release

_SHOWN: Final = 10
_BATCH: Final = 1000


def verify_tree(context: ContextFolder, notes: list[str]) -> None:
    """Read all files of a tree.

    Parameters
    ----------
    notes : list to which remarks are added

    Raises
    ------
    StoreError
        A file is gone, or is not as it was when the tree was declared; up to ten are named.
    """
    info = read_tree(context)
    if info is None:
        return
    fingerprints = read_fingerprints(context, info)
    if fingerprints is None:
        notes.append(NO_DIGESTS)
        return
    survey, release = find_release(context.name)
    links = info.follow_links
    tree = FitsTree(Path(info.root), survey, release, info.reductions, follow_links=links)
    bad: list[str] = []
    for at in range(0, len(fingerprints.rows), _BATCH):
        rows = fingerprints.rows[at : at + _BATCH]
        ids = rows["id"].astype(tree.survey.id_column.dtype)
        for row, file in zip(rows, tree.find_ids(ids), strict=True):
            if file is None:
                bad.append(f"the file of {row['id']} is gone")
            elif crc_of(file.path) != int(row["crc"]):
                bad.append(f"{file.path} has changed")
    if bad:
        more = f" and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
        raise StoreError(
            context.name, f"{'; '.join(bad[:_SHOWN])}{more}: restore them, or declare the tree anew"
        )
