"""Which trees of original files a data folder serves: ``<data>/<context>/tree.json``."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import StoreError
from ..files import EVERYONE_READS, replace_file

_FORMAT = 1
_NAME = "tree.json"


@dataclass(frozen=True, slots=True)
class TreeInfo:
    """The declaration of a tree."""

    context: str
    root: str
    """Absolute path of the folder."""
    reductions: tuple[str, ...]
    """The only reductions that are served."""
    nfiles: int
    """Spectra found when the tree was declared."""
    follow_links: bool = False
    """Whether links may lead out of the folder."""
    format: int = _FORMAT


def tree_file(data: Path, context: str) -> Path:
    """Return the file that declares a context's tree."""
    return data / context / _NAME


def list_trees(data: Path) -> list[str]:
    """Return the contexts that have a tree, sorted."""
    return sorted(path.parent.name for path in data.glob(f"*/{_NAME}")) if data.is_dir() else []


def read_tree(data: Path, context: str) -> TreeInfo | None:
    """Return the declaration of a context's tree, or None when it has none."""
    path = tree_file(data, context)
    try:
        values: Mapping[str, object] = json.loads(path.read_text("utf-8"))
        info = TreeInfo(**values)  # type: ignore[arg-type]  # checked by the except below
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(str(path), f"damaged; declare the tree anew ({error})") from error
    if info.format > _FORMAT:
        raise StoreError(str(path), f"format {info.format} is newer than this program's")
    return info


def write_tree(data: Path, info: TreeInfo) -> None:
    """Declare a tree, or declare it anew; a running service takes note at its next request."""
    path = tree_file(data, info.context)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(asdict(info), indent=1).encode(), mode=EVERYONE_READS)


def remove_tree(data: Path, context: str) -> bool:
    """Take a tree out of service; return False when there was none. Its files are left alone."""
    path = tree_file(data, context)
    present = path.exists()
    path.unlink(missing_ok=True)
    return present
