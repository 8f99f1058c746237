"""Which contexts a data folder holds: every request asks, so it takes as few looks as will do."""

import os
from pathlib import Path

from .layout import segment_names
from .trees import tree_file


class Presence:
    """The contexts of a data folder, as they are now; safe to share between threads.

    What comes or goes is seen at once. Of a context that had a segment, only that segment is
    looked for: it is never changed, and goes with its folder.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._segments: dict[str, Path] = {}
        """By context, the folder of one of its committed segments."""
        self._trees: dict[str, Path] = {}
        """By context, the file that declares its tree, whether or not it is there."""

    def contexts(self) -> set[str]:
        """Return the contexts with a committed segment or a tree."""
        try:
            with os.scandir(self._data) as entries:
                folders = [one.name for one in entries if one.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return set()
        return {one for one in folders if self._has_segment(one) or self._has_tree(one)}

    def _has_segment(self, context: str) -> bool:
        known = self._segments.get(context)
        if known is not None and known.is_dir():
            return True
        self._segments.pop(context, None)
        names = segment_names(self._data, context)
        if names:
            self._segments[context] = self._data / context / names[0]
        return bool(names)

    def _has_tree(self, context: str) -> bool:
        path = self._trees.get(context)
        if path is None:
            path = self._trees[context] = tree_file(self._data, context)
        return path.exists()
