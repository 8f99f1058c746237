"""The folder of the benchmarks' data: made once, made anew when what makes it has changed."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import specserver
from specserver.files import locked

PACKAGE: Final = Path(specserver.__file__).parent


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder whose parts each bear a stamp of what they were made by."""

    folder: Path

    def part(
        self, name: str, stamp: Mapping[str, Any], make: Callable[[Path], object]
    ) -> tuple[Path, str]:
        """Return a part and the digest of its stamp; make it when the stamp is another one.

        Parameters
        ----------
        stamp : all that the part depends on
        make : writes the part into a new folder
        """
        folder = self.folder / name
        record = self.folder / f"{name}.stamp"
        text = json.dumps(stamp, sort_keys=True)
        if not (folder.exists() and record.exists() and record.read_text("utf-8") == text):
            record.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            began = perf_counter()
            sys.stderr.write(f"making {name} …\n")
            make(folder)
            sys.stderr.write(f"made {name} in {perf_counter() - began:.0f} s\n")
            record.write_text(text, "utf-8")
        return folder, sha256(text.encode()).hexdigest()[:16]


@contextmanager
def open_cache(folder: Path) -> Iterator[Cache]:
    """Lend the cache to one run at a time: two would measure each other."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "lock"
    with locked(lock, wait=False) as mine:
        if mine:
            yield Cache(folder)
            return
    sys.stderr.write("another benchmark is at work with these data; waiting for its end …\n")
    with locked(lock):
        yield Cache(folder)


def source_digest(*names: str) -> str:
    """Return a digest of modules and sub-packages of specserver, by their relative paths."""
    digest = sha256()
    for name in names:
        path = PACKAGE / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and file.suffix in {".py", ".tsv"}:
                digest.update(str(file.relative_to(PACKAGE)).encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
