"""Dialects are found, not listed: a new file is served, and held to its independence."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from specserver.server import dialects
from specserver.server.app import create_app
from specserver.settings import Settings

ROOT = Path(__file__).parents[1]
DIALECT = '''"""Greets."""

from fastapi import APIRouter

router = APIRouter(prefix="/greeting")


@router.get("/hello")
def hello() -> str:
    """Say hello."""
    return "hello"
'''


@pytest.fixture
def another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A dialect in a new file."""
    (tmp_path / "greeting.py").write_text(DIALECT)
    monkeypatch.setattr(dialects, "__path__", [*dialects.__path__, str(tmp_path)])
    yield "greeting"
    sys.modules.pop(f"{dialects.__name__}.greeting", None)
    vars(dialects).pop("greeting", None)


def test_a_dialect_in_a_new_file_is_served(another: str) -> None:
    paths = create_app(Settings()).openapi()["paths"]
    assert f"/spec/{another}/hello" in paths
    # The dialects that are asked most come first.
    assert next(iter(paths)) == "/spec/bulk/spectra"
    assert list(paths).index(f"/spec/{another}/hello") > list(paths).index("/spec/vos/{name}")


def test_the_app_names_no_dialect() -> None:
    names = [path.stem for path in (ROOT / "src/specserver/server/dialects").glob("[a-z]*.py")]
    assert len(names) >= 7
    text = (ROOT / "src/specserver/server/app.py").read_text()
    assert not [name for name in names if f"dialects.{name}" in text or f"{name}.router" in text]


@pytest.mark.parametrize("line", ["", "from . import first"])
def test_dialects_in_new_files_may_not_import_each_other(tmp_path: Path, line: str) -> None:
    """The contract of this repository, over a package of two new dialects."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (rule,) = [one for one in linter["contracts"] if one["name"].startswith("Dialects")]
    package = tmp_path / "specserver/server/dialects"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parents[1]):
        (folder / "__init__.py").touch()
    (package / "first.py").touch()
    (package / "second.py").write_text(line)
    config = tmp_path / "importlinter.ini"
    config.write_text(
        "[importlinter]\nroot_package = specserver\n\n[importlinter:contract:dialects]\n"
        f"name = {rule['name']}\ntype = {rule['type']}\nmodules =\n"
        + "".join(f"    {module}\n" for module in rule["modules"])
    )
    code = "from importlinter.cli import lint_imports_command as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--config", config, "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (1 if line else 0), done.stdout + done.stderr
