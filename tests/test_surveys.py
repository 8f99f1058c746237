"""Surveys as plug-ins: found by entry point, written as the guide says, and named nowhere else."""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from importlib import invalidate_caches
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

from serving import serve
from specserver import surveys
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import BadFile, ServiceError, UnknownContext
from specserver.ingest import run_ingest
from specserver.model.grid import grid_from_dict, locate
from specserver.model.survey import Survey

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "specserver"
GUIDE = ROOT / "docs" / "how-to" / "add-a-survey.md"

NAMES = re.compile(
    r"sdss|segue|(?<![a-z])e?boss|desi(?![rgc])|lamost|specobjid|targetid", re.IGNORECASE
)
"""Names of surveys, and of what only one survey has. Not: desired, design, describe."""

# Where names of surveys belong. Each is argued; anything else is a leak of one survey into all.
PLUGINS = (
    "surveys/",  # the plug-ins themselves
    "simulate/",  # mock files in a survey's own format
)
COMPATIBLE = (
    "model/ids.py",  # packing of identifiers, which clients do without a service
    "specClient.py",  # the documented module of the old service, names and all
    "server/dialects/classic.py",  # the endpoints of the old service
    "render/inspection.py",  # columns in files of another viewer, which are read too
)
# Words of the documented interface, or examples in what a command prints of itself: they help
# people, and no decision hangs on them.
EXAMPLES = (
    "cli/",  # help texts: `specserver ingest sdss_dr17 …`; `simulate sdss`, `simulate desi`
)


def sources() -> list[Path]:
    free = (*PLUGINS, *COMPATIBLE, *EXAMPLES)
    return [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if not str(path.relative_to(PACKAGE)).startswith(free)
    ]


def words(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of all identifiers and strings that a program acts on.

    Documentation and comments may give an example, and say where a number is from.
    """
    text = path.read_text("utf-8")
    documented = set()
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        for one in body if isinstance(body, list) else ():
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant):
                documented |= set(range(one.lineno, (one.end_lineno or one.lineno) + 1))
    kinds = {tokenize.NAME, tokenize.STRING}
    kinds |= {getattr(tokenize, name, -1) for name in ("FSTRING_MIDDLE",)}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in kinds and token.start[0] not in documented:
            yield token.start[0], token.string


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_below_the_plugins_names_a_survey(path: Path) -> None:
    named = [f"{path.name}:{line}: {text}" for line, text in words(path) if NAMES.search(text)]
    assert named == []


@pytest.mark.proof
def test_only_the_simulator_imports_a_survey_by_name() -> None:
    plugins = {entry.module.rpartition(".")[2] for entry in entry_points(group=surveys.GROUP)}
    assert plugins >= {"sdss", "desi", "lamost"}
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] in {"surveys", "simulate"}:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and "surveys" in (node.module or "").split("."):
                named = {*str(node.module).split("."), *(alias.name for alias in node.names)}
                assert not named & plugins, path


def test_installed_surveys_define_all_that_the_package_needs() -> None:
    found = surveys.load_surveys()
    assert {"sdss", "lamost"} <= set(found)
    contexts = [one.context for survey in found.values() for one in survey.releases]
    assert len(contexts) == len(set(contexts))
    for name, survey in found.items():
        assert name == survey.name
        check_survey(survey)


def check_survey(survey: Survey) -> None:
    """Assert that the parts of a survey's statement fit each other."""
    columns = {column.name for column in survey.columns}
    vectors = [vector.name for vector in survey.record]
    assert len(set(vectors)) == len(vectors)
    assert {"flux", survey.grid.axis} <= set(vectors)
    assert survey.mask_vector in vectors
    assert {"ra", "dec", survey.id_column.name, *survey.id_parts} <= columns
    assert {survey.z_column, survey.class_column, survey.primary[0]} <= columns
    assert not set(survey.aliases) & columns
    assert 0 <= survey.id_texts < len(survey.id_parts)
    assert len(survey.tables) == 2
    assert np.dtype(survey.id_column.dtype).kind in "iu"
    assert grid_from_dict(survey.grid.to_dict()) == survey.grid
    for vector in (*survey.record, *survey.extra):
        u.Unit(vector.unit)
    u.Unit(survey.flux_scale)


# The guide's own example, installed as a package is.


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module of the guide's example, found by its entry point."""
    (code,) = re.findall(r'```python title="toysurvey.py"\n(.*?)```', GUIDE.read_text(), re.DOTALL)
    (declared,) = re.findall(
        r"```toml\n(\[project.entry-points.*?)```", GUIDE.read_text(), re.DOTALL
    )
    folder = tmp_path / "site"
    install(folder, "toysurvey", declared.replace('"', "").replace("[project.entry-points.", "["))
    (folder / "toysurvey.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    invalidate_caches()
    surveys._installed.cache_clear()
    import toysurvey

    yield toysurvey
    surveys._installed.cache_clear()
    del sys.modules["toysurvey"]


def install(folder: Path, name: str, entry_points: str) -> None:
    """Write what an installed package has besides its code."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entry_points)


def write_toy(folder: Path, number: int) -> Path:
    """Write a file as the guide describes it."""
    flux = np.linspace(1, 2, 2500, dtype=">f4") + number
    ivar = np.full(2500, 4.0, ">f4")
    ivar[7] = 0
    columns = [fits.Column("FLUX", "E", array=flux), fits.Column("IVAR", "E", array=ivar)]
    hdu = fits.BinTableHDU.from_columns(columns)
    cards = {"TOYID": number, "RA": 150.0 + number / 1000, "DEC": 2.2, "Z": 0.1, "CLASS": "QSO"}
    hdu.header.update(cards)
    path = folder / f"toy-{number:05d}.fits"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return path


@pytest.mark.proof
def test_the_guides_plugin_serves_its_files(toy: ModuleType, tmp_path: Path) -> None:
    check_survey(toy.TOY)
    folder = tmp_path / "toy"
    folder.mkdir()
    paths = [write_toy(folder, number) for number in (7, 8, 9)]
    summary = run_ingest(open_root(tmp_path / "data"), "toy_dr1", [folder], workers=1)
    assert (summary.stored, summary.refused) == (3, [])
    with serve(tmp_path / "data", folder) as running:
        client = SpecClient("toy_dr1", svc_url=running.url)
        assert sorted(client.query(150.0, 2.2, 0.5).tolist()) == [7, 8, 9]
        assert client.query(constraint="redshift > 0 and class = 'QSO' limit 1").size == 1
        one = client.getSpec(7)
        assert one["flux"].tobytes() == fits.getdata(paths[0], 1)["FLUX"].astype("<f4").tobytes()
        assert one["wavelength"].tolist() == (4000.0 + 2.0 * np.arange(2500)).tolist()
        assert client.getSpec((8, "v1"))["flux"][0] == 9.0
        assert client.getSpec([7, 8, 9], align=True)["flux"].shape == (3, 2500)
        assert client.getSpec(7, fmt="Spectrum1D").mask.sum() == 1
        assert len(bytes(client.preview(7))) > 3_000


def test_the_guides_tests_hold(toy: ModuleType, tmp_path: Path) -> None:
    path = write_toy(tmp_path, number=7)
    (one,) = toy.TOY.reader.read(path)
    assert one.vectors["flux"].tobytes() == fits.getdata(path, 1)["FLUX"].astype("<f4").tobytes()
    assert locate(toy.TOY.grid, one.axis) == 0
    with pytest.raises(BadFile, match="name"):
        toy.TOY.reader.read(path.rename(tmp_path / "toy-00008.fits"))


def test_the_guide_explains_all_that_a_survey_may_say() -> None:
    text = GUIDE.read_text("utf-8")
    missing = [name for name in Survey.__dataclass_fields__ if not re.search(rf"`{name}`", text)]
    assert [name for name in missing if f"    {name}=" not in text] == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [("nowhere_to_be_found:IT", "cannot be loaded"), ("json:JSONDecoder", "not a Survey")],
)
def test_a_broken_plugin_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    install(tmp_path, "broken", f"[specserver.surveys]\nbroken = {value}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    invalidate_caches()
    surveys._installed.cache_clear()
    with pytest.raises(ServiceError, match=f"'broken'.*{reason}"):
        surveys.load_surveys()
    surveys._installed.cache_clear()


def test_an_unknown_context_lists_those_there_are() -> None:
    with pytest.raises(UnknownContext, match="lamost_dr7"):
        surveys.find_release("nothing")
