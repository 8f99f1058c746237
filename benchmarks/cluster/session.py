"""The README's session, as the tests run it, on a service that is named: as a program."""

import importlib
import sys
from argparse import ArgumentParser
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run the README; print each difference, and return the exit status."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("demo", type=Path, help="what `make demo` makes: mock, second, data")
    parser.add_argument("made", type=Path, help="folder for what the session makes")
    asked = parser.parse_args()
    # The pages are run by what the tests run them with.
    sys.path.insert(0, str(ROOT / "tests"))
    pages = importlib.import_module("pages")
    running = SimpleNamespace(url=asked.url, folder=asked.demo / "mock")
    faults = pages.run_page(ROOT / "README.md", asked.made, running)
    sys.stdout.writelines(f"{fault}\n" for fault in faults)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
