"""The documented interface: what docs/interface.md lists is there, and is tested.

The first part holds the tables to the code. The rest are the tests of what no other file tests,
above all every form of identifier in every function that takes one.
"""

import ast
import inspect
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import urllib3
from astropy.table import Table
from matplotlib import pyplot as plt

from commands import command
from serving import Served, serve
from specserver import specClient
from specserver.auth import TokenBook
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import (
    BadConstraint,
    BadIdentifier,
    BadParameter,
    NotAuthenticated,
    NotFound,
    ServiceError,
    UnknownContext,
    UnknownField,
    UnknownProfile,
)
from specserver.model.ids import pack_specobjid, unpack_specobjid
from specserver.render.figure import spectrum as spectrum_figure
from specserver.render.viewer import document

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "interface.md").read_text("utf-8")


# --- The tables ---------------------------------------------------------------------------------


@cache
def names_of_tests(path: Path) -> set[str]:
    """Return the names of the tests of a file."""
    tree = ast.parse(path.read_text("utf-8"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_test_that_the_tables_name_exists() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE))
    assert len(named) > 100
    missing = [
        f"{file}::{name}"
        for file, name in sorted(named)
        if not (ROOT / file).is_file() or name not in names_of_tests(ROOT / file)
    ]
    assert missing == []


def rows_of(function: str) -> set[str]:
    """Return the words in code of the second column of a function's rows."""
    rows = re.findall(rf"^\| `{function}` \| ([^|]*) \|", PAGE, re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


@pytest.mark.parametrize("name", [one for one in specClient.__all__ if one != "vos"])
def test_every_keyword_is_in_the_tables(name: str) -> None:
    function = getattr(specClient, name)
    public = {"getGridPlot": "plotGrid"}.get(name, name)
    parameters = inspect.signature(function).parameters
    keywords = set(parameters) - {"args", "style"}
    if "style" in parameters:
        # Keywords in a group are declared, each with its type.
        (group,) = get_args(parameters["style"].annotation)
        keywords |= set(group.__annotations__)
    listed = rows_of(public)
    assert f"\n| `{public}` | " in PAGE, f"{public} has no row"
    assert keywords <= listed, f"{public}: {sorted(keywords - listed)}"
    # No public function swallows what it does not know.
    kinds = {name: one.kind for name, one in parameters.items() if name != "style"}
    assert inspect.Parameter.VAR_KEYWORD not in kinds.values()


def test_every_row_names_its_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "`" in line]
    bare = [row for row in rows if "::" not in row and "issue" not in row]
    assert bare == []


def test_every_item_that_the_predecessor_got_wrong_is_in_the_tables() -> None:
    _, _, part = PAGE.partition("## What the predecessor got wrong")
    assert len(re.findall(r"^\| .*::test_", part, re.MULTILINE)) >= 27
    ours = names_of_tests(ROOT / "tests" / "test_predecessor.py")
    assert [name for name in sorted(ours) if f"::{name}`" not in part] == []


# --- Identifiers --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Guest:
    """A service, a user of it who has a virtual space, and what the service holds."""

    running: Served
    token: str

    @property
    def client(self) -> SpecClient:
        client = SpecClient(svc_url=self.running.url)
        client.set_token(self.token)
        return client

    @property
    def large(self) -> list[int]:
        """Identifiers from 2^63 up, of one plate."""
        return sorted(one for one in self.running.ids.tolist() if one >= 2**63)[:3]

    @property
    def some(self) -> list[int]:
        """Identifiers on both sides of 2^63, in no order."""
        small = sorted(self.running.ids.tolist())
        return [small[3], self.large[0], small[0], self.large[1]]


@pytest.fixture(scope="module")
def guest(
    mock_survey: Path, mock_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guest]:
    data = tmp_path_factory.mktemp("interface") / "data"
    shutil.copytree(mock_data / "sdss_dr17", data / "sdss_dr17")
    token = TokenBook(open_root(data)).create("guest", now=datetime.now(UTC))
    with serve(data, mock_survey) as running:
        guest = Guest(running, token)
        for name, ids in (("some.txt", guest.some), ("one.txt", guest.some[1:2])):
            guest.client.vos.put(name, "".join(f"{one}\n" for one in ids).encode())
        yield guest


Form = Callable[[list[int], Path], Any]


def parts(number: int) -> tuple[Any, ...]:
    return tuple(unpack_specobjid(number).tolist())


def written(path: Path, text: str) -> str:
    path.write_text(text, "utf-8")
    return str(path)


def lines(ids: list[int]) -> str:
    return "".join(f"{one}\n" for one in ids)


def array(ids: list[int]) -> np.ndarray:
    return np.array(ids, "u8")


ONE: dict[str, Form] = {
    "int": lambda ids, _: ids[0],
    "numpy.uint64": lambda ids, _: np.uint64(ids[0]),
    "signed": lambda ids, _: int(np.uint64(ids[0]).view("i8")),
    "numpy.int64": lambda ids, _: np.uint64(ids[0]).view("i8"),
    "string": lambda ids, _: str(ids[0]),
    "numpy.str_": lambda ids, _: np.str_(ids[0]),
    "tuple": lambda ids, _: parts(ids[0]),
    "tuple without run2d": lambda ids, _: parts(ids[0])[:3],
    "tuple of numpy scalars": lambda ids, _: tuple(np.array(parts(ids[0])[:3])),
    "text of a tuple": lambda ids, _: str(parts(ids[0])),
    "as pictures print it": lambda ids, _: "{}-{}-{}".format(*parts(ids[0])),
    "name of its file": lambda ids, _: "spec-{:04}-{}-{:04}.fits".format(*parts(ids[0])),
    "row of a table": lambda ids, _: Table({"specobjid": array(ids)})[0],
}
"""Forms of one identifier."""

MANY: dict[str, Form] = {
    "list": lambda ids, _: ids,
    "list of numpy scalars": lambda ids, _: list(array(ids)),
    "list of strings": lambda ids, _: [str(one) for one in ids],
    "list of tuples": lambda ids, _: [parts(one) for one in ids],
    "tuple of tuples": lambda ids, _: tuple(parts(one) for one in ids),
    "tuples without run2d": lambda ids, _: [parts(one)[:3] for one in ids],
    "mixed kinds": lambda ids, _: [
        (parts(one), one, str(one), np.uint64(one).view("i8"))[place % 4]
        for place, one in enumerate(ids)
    ],
    "array": lambda ids, _: array(ids),
    "array of signed": lambda ids, _: array(ids).view("i8"),
    "array of text": lambda ids, _: array(ids).astype(str),
    "structured array": lambda ids, _: Table(
        {"z": np.ones(len(ids)), "specobjid": array(ids)}
    ).as_array(),
    "structured array of parts": lambda ids, _: unpack_specobjid(ids),
    "DataFrame": lambda ids, _: pd.DataFrame({"specobjid": array(ids)}),
    "DataFrame of parts": lambda ids, _: pd.DataFrame(unpack_specobjid(ids)),
    "Table": lambda ids, _: Table({"specobjid": array(ids)}),
    "one a line": lambda ids, _: lines(ids),
    "commas": lambda ids, _: ", ".join(map(str, ids)),
    "file": lambda ids, path: written(path / "ids.txt", lines(ids)),
    "file with a header": lambda ids, path: written(path / "h.txt", "specobjid\n" + lines(ids)),
    "file with columns": lambda ids, path: written(
        path / "table.csv", "z,specobjid\n" + "".join(f"0.5,{one}\n" for one in ids)
    ),
    "file of tuples": lambda ids, path: written(
        path / "tuples.txt", "".join(f"{parts(one)}\n" for one in ids)
    ),
    "Path": lambda ids, path: Path(written(path / "ids.txt", lines(ids))),
    "vos": lambda ids, _: "vos://some.txt" if len(ids) > 1 else "vos://one.txt",
}
"""Forms of a list; each also makes a list of one."""

NAMED: dict[str, Form] = {
    "DataFrame": lambda ids, _: pd.DataFrame({"mine": array(ids), "specobjid": 5}),
    "Table": lambda ids, _: Table({"mine": array(ids), "specobjid": [5] * len(ids)}),
    "structured array": lambda ids, _: Table(
        {"mine": array(ids), "specobjid": [5] * len(ids)}
    ).as_array(),
    "file": lambda ids, path: written(
        path / "n.csv", "specobjid,mine\n" + "".join(f"5,{one}\n" for one in ids)
    ),
}
"""Tables whose column of identifiers must be named: ``id_col='mine'``."""


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    assert len(one) == len(other)
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def truth(guest: Guest) -> list[np.ndarray]:
    """The spectra of ``guest.some``, asked for one by one."""
    return [guest.client.getSpec(one) for one in guest.some]


@pytest.mark.parametrize("form", ONE)
def test_getspec_takes_every_form_of_one(guest: Guest, truth: Any, form: str, tmp_path: Path):
    got = guest.client.getSpec(ONE[form](guest.some[1:2], tmp_path))
    assert isinstance(got, np.ndarray)
    assert same([got], truth[1:2])


@pytest.mark.parametrize("form", MANY)
def test_getspec_takes_every_form_of_many(guest: Guest, truth: Any, form: str, tmp_path: Path):
    got = guest.client.getSpec(MANY[form](guest.some, tmp_path))
    assert isinstance(got, list)
    assert same(got, truth)
    alone = guest.client.getSpec(MANY[form](guest.some[1:2], tmp_path))
    # Text of one identifier is one identifier; a list, a table and a file of one stay a list.
    assert isinstance(alone, np.ndarray if form in {"one a line", "commas"} else list)
    assert same(alone if isinstance(alone, list) else [alone], truth[1:2])


@pytest.mark.proof
@pytest.mark.parametrize("form", NAMED)
def test_id_col_in_every_function(guest: Guest, truth: Any, form: str, tmp_path: Path):
    spec, given = guest.client, NAMED[form](guest.some, tmp_path)
    assert same(spec.getSpec(given, id_col="mine"), truth)
    assert spec.preview(given, id_col="mine") == spec.preview(guest.some)
    assert spec.plotGrid(given, 2, 2, id_col="mine") == spec.plotGrid(guest.some, 2, 2)
    assert spec.stackedImage(given, id_col="mine") == spec.stackedImage(guest.some)
    page = spec.prospect(given, id_col="mine", show=False)
    assert all(str(one) in page.html for one in guest.some)
    with pytest.raises(UnknownField, match="yours"):
        spec.getSpec(given, id_col="yours")


def test_preview_takes_every_form(guest: Guest, tmp_path: Path) -> None:
    spec, ids = guest.client, guest.some[1:2]
    expected = spec.preview(ids[0])
    for name, form in {**ONE, **MANY}.items():
        assert spec.preview(form(ids, tmp_path)) == expected, name


@pytest.mark.proof
def test_grid_takes_every_form(guest: Guest, tmp_path: Path) -> None:
    spec, ids = guest.client, guest.some
    expected, single = spec.plotGrid(ids, 2, 2), spec.plotGrid(ids[:1], 1, 1)
    for name, form in MANY.items():
        assert spec.getGridPlot(form(ids, tmp_path), 2, 2) == expected, name
    for name, form in ONE.items():
        assert spec.plotGrid(form(ids, tmp_path), 1, 1) == single, name


def test_stacked_image_takes_every_form(guest: Guest, tmp_path: Path) -> None:
    spec, ids = guest.client, guest.some
    expected, single = spec.stackedImage(ids), spec.stackedImage(ids[:1])
    for name, form in MANY.items():
        assert spec.stackedImage(form(ids, tmp_path)) == expected, name
    for name, form in ONE.items():
        assert spec.stackedImage(form(ids, tmp_path)) == single, name


def test_plot_takes_every_form_of_one(guest: Guest, tmp_path: Path, monkeypatch: Any) -> None:
    plt.switch_backend("agg")
    # To lay a figure out takes most of its time, and changes neither its title nor its curves.
    monkeypatch.setattr(spectrum_figure, "_lay_out", lambda axes: axes.figure)
    spec, ids = guest.client, guest.some[1:2]
    flux = spec.getSpec(ids[0])["flux"]
    for name, form in {**ONE, **MANY}.items():
        spec.plot(form(ids, tmp_path), mark_lines=None)
        axes = plt.gcf().axes[0]
        assert str(ids[0]) in axes.get_title(loc="left"), name
        (curve,) = [line for line in axes.lines if line.get_label() == "flux"]
        drawn = np.ma.filled(curve.get_ydata(), np.nan)
        known = np.isfinite(drawn)
        assert np.array_equal(drawn[known], flux[known]), name
        plt.close("all")


def test_prospect_takes_every_form(guest: Guest, tmp_path: Path, monkeypatch: Any) -> None:
    spec, ids = guest.client, guest.some
    whole = [spec.prospect(given, show=False).html for given in (ids, ids[0])]
    assert [[str(one) in html for one in ids] for html in whole] == [
        [True] * 4, [True, False, False, False]
    ]  # fmt: skip
    # A page takes half a second: of the other forms it is seen which spectra would be in it.
    monkeypatch.setattr(
        document, "viewer_html", lambda spectra, _: " ".join(one.title for one in spectra)
    )
    for name, form in MANY.items():
        html = spec.prospect(form(ids, tmp_path), show=False).html
        assert all(str(one) in html for one in ids), name
    for name, form in ONE.items():
        html = spec.prospect(form(ids, tmp_path), show=False).html
        assert [str(one) in html for one in ids] == [True, False, False, False], name


TEXTS: dict[str, Callable[[list[int]], str]] = {
    "printed list": str,
    "printed list of tuples": lambda ids: str([parts(one) for one in ids]),
    "printed tuple of tuples": lambda ids: str(tuple(parts(one) for one in ids)),
    "printed array": lambda ids: str(array(ids)),
    "repr of an array": lambda ids: repr(array(ids)),
    "repr of numpy scalars": lambda ids: repr(list(array(ids))),
    "signed": lambda ids: str(array(ids).view("i8").tolist()),
    "one a line": lines,
    "commas": lambda ids: ",".join(map(str, ids)),
    "text in a list": lambda ids: str([str(one) for one in ids]),
    "mixed kinds": lambda ids: str([parts(ids[0]), *ids[1:]]),
    "as pictures print them": lambda ids: ", ".join("{}-{}-{}".format(*parts(n)) for n in ids),
    "names of files": lambda ids: " ".join(
        "spec-{:04}-{}-{:04}-{}.npy".format(*parts(one)) for one in ids
    ),
    "header": lambda ids: "specobjid\n" + lines(ids),
}
"""Texts in which a request can list identifiers; the old client prints what it was given."""


@pytest.mark.parametrize("text", TEXTS)
def test_endpoints_take_every_text_of_identifiers(guest: Guest, truth: Any, text: str) -> None:
    # Of more than one: a single tuple in a list is a tuple.
    listed = TEXTS[text](guest.some)
    ends = [10.0 ** one["loglam"].astype(float)[[0, -1]] for one in truth]
    with urllib3.PoolManager() as pool:

        def ask(path: str, **more: str) -> bytes:
            answer = pool.request_encode_body(
                "POST",
                f"{guest.running.url}/{path}",
                {"id_list": listed, "context": "default", "profile": "default", **more},
                encode_multipart=False,
            )
            assert answer.status == 200, (path, answer.data)
            return answer.data

        span = json.loads(ask("listSpan"))
        assert span["w0"] == pytest.approx(min(one[0] for one in ends), rel=1e-6)
        assert span["w1"] == pytest.approx(max(one[1] for one in ends), rel=1e-6)
        assert ask("getSpec").endswith(truth[-1].tobytes())
        spec = guest.client
        assert ask("preview") == spec.preview(guest.some)
        assert ask("gridPlot", nx="2", ny="2") == spec.plotGrid(guest.some, 2, 2)
        assert ask("plotGrid", nx="2", ny="2") == spec.plotGrid(guest.some, 2, 2)
        assert ask("stackedImage") == spec.stackedImage(guest.some)


def test_the_query_by_identifier_takes_every_text(guest: Guest) -> None:
    with urllib3.PoolManager() as pool:
        for name, text in TEXTS.items():
            fields = {"id": text(guest.some), "fields": "specobjid"}
            answer = pool.request("GET", f"{guest.running.url}/query", fields=fields)
            assert answer.data.decode().split() == ["specobjid", *map(str, guest.some)], name


def test_the_command_line_takes_every_form(guest: Guest, tmp_path: Path, monkeypatch: Any) -> None:
    ids = guest.some
    tuples = [str(parts(one)) for one in ids]
    signed = [str(one) for one in array(ids).view("i8").tolist()]
    listed = written(tmp_path / "ids.txt", lines(ids))
    header = written(tmp_path / "ids.csv", "z,specobjid\n" + "".join(f"1,{o}\n" for o in ids))
    calls = {
        "numbers": ids,
        "tuples": tuples,
        "as pictures print them": ["{}-{}-{}".format(*parts(one)) for one in ids],
        "tuples without blanks": [one.replace(" ", "") for one in tuples],
        "commas": [",".join(map(str, ids))],
        "signed": ["--", *signed],
        "file": ["--ids", listed],
        "file with columns": ["--ids", header],
        "vos": ["--ids", "vos://some.txt", "--token", guest.token],
        "standard input": ["--ids", "-"],
        "both": [ids[0], ids[1], "--ids", written(tmp_path / "rest", lines(ids[2:]))],
    }
    truth = [one.tobytes() for one in guest.client.getSpec(sorted(ids))]
    for number, (name, words) in enumerate(calls.items()):
        monkeypatch.setattr("sys.stdin", StringIO(lines(ids)))
        out = tmp_path / str(number)
        command("get", "--url", guest.running.url, "--out", out, *words)
        got = [np.load(path).tobytes() for path in out.glob("*.npy")]
        assert sorted(got) == sorted(truth), name


def wildcards(guest: Guest) -> dict[str, tuple[tuple[Any, ...], list[int]]]:
    """Return tuples with wildcards and lists, and the identifiers that each stands for."""
    rows = unpack_specobjid(np.sort(guest.running.ids))
    plates, mjds, fibers = (rows[name].tolist() for name in ("plate", "mjd", "fiber"))
    plate, mjd, fiber = plates[-1], mjds[-1], fibers[-1]
    other = next(one for one in plates if one != plate)
    mates = sorted(
        f for p, m, f in zip(plates, mjds, fibers, strict=True) if (p, m) == (plate, mjd)
    )
    three, wide = [mates[0], mates[2], mates[-1]], (mates[1], mates[4])

    def chosen(rule: Callable[[int, int, int, str], bool]) -> list[int]:
        # In the order of the parts, which is not quite that of the identifiers.
        found = sorted(row for row in rows.tolist() if rule(*row))
        return [int(pack_specobjid(*row)) for row in found]

    run2d = rows[-1]["run2d"]
    two = f"{other},{plate}"
    both = ",".join(dict.fromkeys(rows["run2d"].tolist()))
    return {
        "(p,)": ((plate,), chosen(lambda p, *_: p == plate)),
        "(p,m)": ((plate, mjd), chosen(lambda p, m, *_: (p, m) == (plate, mjd))),
        "(p,m,*)": ((plate, mjd, "*"), chosen(lambda p, m, *_: (p, m) == (plate, mjd))),
        "(p,m,a-b)": (
            (plate, mjd, "{}-{}".format(*wide)),
            chosen(lambda p, m, f, _: (p, m) == (plate, mjd) and wide[0] <= f <= wide[1]),
        ),
        "(p,m,a,b,c)": (
            (plate, mjd, ",".join(map(str, three))),
            chosen(lambda p, m, f, _: (p, m) == (plate, mjd) and f in three),
        ),
        "(p,m,a,b,run2d)": (
            (plate, mjd, f"{three[0]},{three[2]}", run2d),
            chosen(lambda p, m, f, _: (p, m) == (plate, mjd) and f in (three[0], three[2])),
        ),
        "(p,q,*,a-b,r,s)": (
            (two, "*", "1-500", both),
            chosen(lambda p, _m, f, _r: p in (other, plate) and f <= 500),
        ),
        "(*,m,f)": (("*", mjd, fiber), chosen(lambda _p, m, f, _r: (m, f) == (mjd, fiber))),
        "(p,*,*,run2d)": ((plate, "*", "*", run2d), chosen(lambda p, *_: p == plate)),
    }


@pytest.mark.proof
def test_wildcards_in_every_function(guest: Guest, tmp_path: Path) -> None:
    spec = guest.client
    for name, (form, ids) in wildcards(guest).items():
        assert ids, name
        got = spec.getSpec(form)
        got = got if isinstance(got, list) else [got]
        assert same(got, spec.getSpec(ids)), name
        assert spec.stackedImage(form) == spec.stackedImage(ids), name
        out = tmp_path / re.sub(r"\W", "_", name)
        command("get", "--url", guest.running.url, "--out", out, str(form), "--values", "flux")
        assert len(list(out.glob("*.npy"))) == len(ids), name
    form, ids = wildcards(guest)["(p,m,a,b,c)"]
    assert spec.preview(form) == spec.preview(ids)
    assert spec.plotGrid(form, 3, 1) == spec.plotGrid(ids, 3, 1)
    page = spec.prospect(form, show=False)
    assert all(str(one) in page.html for one in ids)
    # In a list beside others, as text, twice: each stands for its spectra where it stands.
    asked = [form, ids[0], str(form)]
    assert same(spec.getSpec(asked), spec.getSpec([*ids, ids[0], *ids]))


# --- Keywords and answers that no other file tests ----------------------------------------------


@pytest.fixture(scope="module")
def spec(served: Served) -> SpecClient:
    return SpecClient(svc_url=served.url)


def test_lists_in_every_format(spec: SpecClient) -> None:
    calls = {
        "contexts": (spec.list_contexts, "sdss_dr17"),
        "profiles": (spec.list_profiles, "default"),
        "catalogs": (spec.catalogs, "sdss_dr17"),
    }
    for name, (call, one) in calls.items():
        whole = call(fmt="json")
        assert isinstance(whole, dict), name
        header, *rows = call(fmt="csv").splitlines()
        assert header.split(",")[0] == name.removesuffix("s")
        assert [row.split(",")[0] for row in rows] == list(whole), name
        shown = call().splitlines()
        assert [line.split()[0] for line in shown[1:]] == list(whole), name
        assert call(fmt="TEXT") == call(), name
        assert isinstance(call(one, fmt="json"), dict), name
        assert call(one, "default", "json") if name == "catalogs" else call(one, "json"), name
    with pytest.raises(UnknownContext, match="sdss_dr17"):
        spec.list_contexts("sdss_dr99")
    with pytest.raises(UnknownProfile, match="default"):
        spec.list_profiles("nonesuch")
    with pytest.raises(UnknownProfile, match="default"):
        spec.catalogs(profile="nonesuch")


def test_set_profile_takes_what_there_is(served: Served) -> None:
    spec = SpecClient(svc_url=served.url)
    assert spec.set_profile("default") == "OK"
    assert spec.get_profile() == "default"
    with pytest.raises(UnknownProfile, match="default"):
        spec.set_profile("nonesuch")
    assert spec.get_profile() == "default"


def test_the_module_works_as_a_client_does(served: Served, monkeypatch: Any) -> None:
    monkeypatch.setenv("SPECSERVER_URL", "http://127.0.0.1:9/spec")
    assert not specClient.isAlive(timeout=1)
    assert specClient.isAlive(served.url, 5)
    specClient.set_svc_url(served.url)
    try:
        assert specClient.get_svc_url() == served.url
        mine = specClient.getClient("sdss_dr17", "default")
        assert (mine.get_context(), specClient.get_context()) == ("sdss_dr17", "default")
        assert mine.get_profile() == specClient.get_profile() == "default"
        ids = specClient.query(constraint="limit 3")
        assert same(specClient.getSpec(ids), mine.getSpec(ids))
        with pytest.raises(UnknownContext, match="sdss_dr17"):
            specClient.getClient(context="sdss_dr99").getSpec(ids)
        specClient.set_context("sdss_dr17")
        assert specClient.get_context() == "sdss_dr17"
    finally:
        specClient.set_context("default")
        specClient.set_svc_url(None)


def test_every_function_takes_context_and_profile(served: Served, spec: SpecClient) -> None:
    plt.switch_backend("agg")
    number = int(served.ids[0])
    calls: dict[str, Callable[..., Any]] = {
        "query": lambda **more: spec.query(constraint="limit 1", **more),
        "getSpec": lambda **more: spec.getSpec(number, **more),
        "preview": lambda **more: spec.preview(number, **more),
        "plotGrid": lambda **more: spec.plotGrid([number], 1, 1, **more),
        "stackedImage": lambda **more: spec.stackedImage([number], **more),
        "plot": lambda **more: spec.plot(number, **more),
        "prospect": lambda **more: spec.prospect(number, show=False, **more),
    }
    for call in calls.values():
        call(context="sdss_dr17", profile="default")
        with pytest.raises(UnknownContext, match="sdss_dr17"):
            call(context="sdss_dr99")
        with pytest.raises(UnknownProfile, match="default"):
            call(profile="nonesuch")
        with pytest.raises(TypeError, match="colour"):
            call(colour="red")
        with pytest.raises(NotAuthenticated):
            call(token="specserver.wrong." + "x" * 43)
    plt.close("all")


@pytest.mark.proof
def test_every_function_takes_verbose_debug_and_timeout(
    served: Served, spec: SpecClient, capsys: pytest.CaptureFixture[str]
) -> None:
    plt.switch_backend("agg")
    number = int(served.ids[0])
    calls: dict[str, Callable[..., Any]] = {
        "bulk/query": lambda **more: spec.query(constraint="limit 1", **more),
        "bulk/spectra": lambda **more: spec.getSpec(number, **more),
        "bulk/files": lambda **more: spec.getSpec(number, fmt="FITS", **more),
        "preview": lambda **more: spec.preview(number, **more),
        "plotGrid": lambda **more: spec.plotGrid([number], 1, 1, **more),
        "stackedImage": lambda **more: spec.stackedImage([number], **more),
    }
    also: dict[str, Callable[..., Any]] = {
        "plot": lambda **more: spec.plot(number, **more),
        "prospect": lambda **more: spec.prospect(number, show=False, **more),
    }
    for path, call in calls.items():
        call(timeout=30)
        assert capsys.readouterr().err == "", path
        call(debug=True)
        assert f"POST {served.url}/{path}" in capsys.readouterr().err, path
        call(verbose=True)
        told = capsys.readouterr().err
        assert re.search(r"[\d,.]+ (rows|spectra|kB|MB).* in \d+\.\d\d s", told), (path, told)
    for name, call in also.items():
        call(timeout=30)
        assert capsys.readouterr().err == "", name
        call(debug=True, verbose=True)
        assert "bulk/spectra" in (told := capsys.readouterr().err), name
        assert " in " in told, name
    plt.close("all")


def test_timeouts_of_every_function_are_kept() -> None:
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        taken: list[Any] = []
        taker = threading.Thread(
            target=lambda: [taken.append(deaf.accept()) for _ in range(7)], daemon=True
        )
        taker.start()
        spec = SpecClient(svc_url=f"http://127.0.0.1:{port}/spec")
        for call in (
            lambda: spec.getSpec(5, timeout=0.2),
            lambda: spec.getSpec(5, "FITS", timeout=0.2),
            lambda: spec.preview(5, timeout=0.2),
            lambda: spec.plotGrid([5], 1, 1, timeout=0.2),
            lambda: spec.stackedImage([5], timeout=0.2),
            lambda: spec.plot(5, timeout=0.2),
            lambda: spec.prospect(5, timeout=0.2),
        ):
            began = time.monotonic()
            with pytest.raises(ServiceError, match=r"0\.2 s"):
                call()
            assert time.monotonic() - began < 5
        began = time.monotonic()
        assert spec.isAlive(timeout=0.2) is False
        assert time.monotonic() - began < 5
        for connection, _ in taken:
            connection.close()


def test_arguments_of_the_panels_below(served: Served, spec: SpecClient) -> None:
    plt.switch_backend("agg")
    number = int(served.ids[0])
    spec.plot(number, values="flux,sky,ivar", sky_args={"color": "red"}, ivar_args={"linewidth": 3})
    titled = {axes.get_title(loc="left")[:3]: axes for axes in plt.gcf().axes}
    assert titled["sky"].lines[-1].get_color() == "red"
    assert titled["inv"].lines[-1].get_linewidth() == 3
    plt.close("all")


def test_a_grid_is_plain_dark_and_written(served: Served, spec: SpecClient, tmp_path: Path) -> None:
    ids = served.ids[:4]
    picture = spec.plotGrid(ids, 2, 2)
    raw = spec.plotGrid(ids, 2, 2, fmt="raw")
    assert type(raw) is bytes
    assert raw == picture
    assert spec.plotGrid(ids, 2, 2, out=tmp_path / "grid.png") == "OK"
    assert (tmp_path / "grid.png").read_bytes() == raw
    dark = spec.plotGrid(ids, 2, 2, dark=True)
    levels = [np.asarray(one.image.convert("L")).mean() for one in (picture, dark)]
    assert levels[0] > 200
    assert levels[1] < 60
    assert picture.size == dark.size


def test_missing_spectra_are_left_out_of_an_image(served: Served, spec: SpecClient) -> None:
    ids = served.ids[:3].tolist()
    with pytest.warns(UserWarning, match="left out: 5"):
        image = spec.stackedImage([ids[0], 5, *ids[1:]], missing="skip")
    assert image == spec.stackedImage(ids)
    with pytest.raises(NotFound, match="5"):
        spec.stackedImage([*ids, 5])


def test_regions_by_keyword_and_constraints_after_the_position(
    served: Served, spec: SpecClient
) -> None:
    table = spec.query(constraint="plate > 0", fields="specobjid,ra,dec,z", primary=False)
    ra, dec = float(table["ra"][0]), float(table["dec"][0])
    corners = [(ra - 1, dec - 1), (ra + 1, dec - 1), (ra + 1, dec + 1), (ra - 1, dec + 1)]
    inside = (np.abs(table["ra"] - ra) < 1) & (np.abs(table["dec"] - dec) < 0.99)
    high = table[inside & (table["z"] > 0.1)]["specobjid"].tolist()
    found = spec.query(corners, "z > 0.1", "", "sdss_dr17", "default", primary=False)
    assert set(high) <= set(found.tolist())
    for asked in (
        {"region": corners},
        {"region": np.array(corners)},
        {"region": np.array(corners).ravel()},
        {"region": corners[::-1]},
    ):
        again = spec.query(**asked, constraint="z > 0.1", primary=False, out=None)
        assert sorted(again.tolist()) == sorted(found.tolist())
    assert sorted(spec.query(pos=(ra, dec), size=0.5, primary=False)) == sorted(
        spec.query(ra=ra, dec=dec, size=0.5, primary=False)
    )
    assert (
        spec.query(corners, "order by z desc limit 2", primary=False, fields="z").tolist()
        == (sorted(spec.query(corners, primary=False, fields="z").tolist(), reverse=True)[:2])
    )


def test_fields_with_tuple_among_others(served: Served, spec: SpecClient) -> None:
    table = spec.query(constraint="limit 3", fields="tuple,z")
    assert table.colnames == ["specobjid", "plate", "mjd", "fiberid", "run2d", "z"]
    for row in table:
        assert parts(int(row["specobjid"])) == tuple(
            row[name] for name in ("plate", "mjd", "fiberid", "run2d")
        )


def test_endpoints_of_the_description_answer(served: Served) -> None:
    with urllib3.PoolManager() as pool:
        paths = json.loads(pool.request("GET", f"{served.url}/openapi.json").data)["paths"]
        listed = {
            ("GET", name)
            for name in (
                "ping", "profiles", "contexts", "catalogs", "query", "validate", "available",
                "shutdown", "debug", "preview",
            )
        } | {
            ("POST", name)
            for name in ("getSpec", "preview", "gridPlot", "plotGrid", "stackedImage", "listSpan")
        }  # fmt: skip
        for method, name in sorted(listed):
            assert method.lower() in paths[f"/spec/{name}"], name
        for path in ("", "/", "/ping"):
            answer = pool.request("GET", served.url + path)
            assert (answer.status, answer.data[:11]) == (200, b"Hello World")
        ok = pool.request("GET", f"{served.url}/validate?what=profile&value=default")
        assert ok.data == b"OK"


def test_statuses_of_refusals(served: Served) -> None:
    number = int(served.ids[0])
    with urllib3.PoolManager() as pool:

        def status(path: str, fields: dict[str, str]) -> tuple[int, str]:
            answer = pool.request_encode_body(
                "POST", f"{served.url}/{path}", fields, encode_multipart=False
            )
            told = json.loads(answer.data)
            assert told["message"], path
            return answer.status, told["code"]

        for path in ("getSpec", "listSpan", "plotGrid", "stackedImage", "preview"):
            more = {"nx": "1", "ny": "1"} if path == "plotGrid" else {}
            asked = {"id_list": str(number), **more}
            assert status(path, more)[0] == 422, path
            assert status(path, asked | {"id_list": "abc"}) == (400, "bad_identifier"), path
            assert status(path, asked | {"id_list": "5"}) == (404, "not_found"), path
            gone = asked | {"context": "sdss_dr99"}
            assert status(path, gone) == (404, "unknown_context"), path
            other = asked | {"profile": "nonesuch"}
            assert status(path, other) == (404, "unknown_profile"), path
        assert status("plotGrid", {"id_list": str(number), "nx": "999", "ny": "999"})[0] == 413
        assert pool.request("GET", f"{served.url}/shutdown").status == 401


def test_utilities_take_scalars_and_arrays_of_any_length(served: Served) -> None:
    ids = served.ids
    rows = specClient.unpack_specobjid(ids)
    assert rows.dtype.names == ("plate", "mjd", "fiber", "run2d")
    fields = [rows[name] for name in rows.dtype.names]
    for count in (0, 1, 3, len(ids)):
        some = [field[:count] for field in fields]
        assert specClient.pack_specobjid(*some).tolist() == ids[:count].tolist()
        assert specClient.unpack_specobjid(ids[:count]).shape == (count,)
    one = rows[0]
    assert specClient.pack_specobjid(*one.tolist()) == ids[0]
    assert specClient.unpack_specobjid(int(ids[0])).plate == one["plate"]
    keywords = dict(zip(("plate", "mjd", "fiber", "run2d"), one.tolist(), strict=True))
    assert specClient.pack_specobjid(**keywords) == ids[0]
    air = specClient.vactoair(np.array([5008.24]))
    assert air[0] == pytest.approx(5006.84, abs=0.01)
    assert specClient.airtovac(air)[0] == pytest.approx(5008.24, abs=1e-6)


def test_conversions_of_fetched_spectra(served: Served, spec: SpecClient) -> None:
    one, aligned = spec.getSpec(int(served.ids[0])), spec.getSpec(served.ids[:3], align=True)
    assert specClient.to_pandas(one)["flux"].to_numpy().tobytes() == one["flux"].tobytes()
    assert np.asarray(specClient.to_Table(one)["ivar"]).tobytes() == one["ivar"].tobytes()
    assert np.array_equal(specClient.to_Spectrum1D(one).flux.value.astype("f4"), one["flux"])
    assert specClient.to_Spectrum1D(aligned).flux.shape == aligned.shape


def test_spectra_where_identifiers_are_wanted(served: Served, spec: SpecClient) -> None:
    ids = served.ids[:2].tolist()
    held = [spec.getSpec(ids), spec.getSpec(ids, align=True), spec.getSpec(ids, values="flux")]
    held += [spec.getSpec(ids[0], fmt) for fmt in ("numpy", "pandas", "Table", "Spectrum1D")]
    held += [spec.getSpec(ids, fmt) for fmt in ("SpectrumList", "SpectrumCollection")]
    for spectra in held:
        for make in (spec.preview, spec.stackedImage, spec.stack, spec.getSpec):
            with pytest.raises(
                BadIdentifier, match=r"identifiers, .*plot and prospect draw spectra"
            ):
                make(spectra)
        with pytest.raises(BadIdentifier, match="plot and prospect draw spectra"):
            spec.plotGrid(spectra, 2, 2)
    # A table of fluxes with identifiers is one of identifiers.
    named = Table({"specobjid": served.ids[:2], "flux": [1.0, 2.0]})
    assert len(spec.getSpec(named, values="flux")) == 2


def test_fields_of_another_type_are_the_fault_of_the_caller(
    served: Served, spec: SpecClient
) -> None:
    number = int(served.ids[0])
    for wrong in ({"thickness": "x"}, {"thickness": 1.5}, {"cmap": 5}):
        with pytest.raises(BadParameter, match=next(iter(wrong))):
            spec.stackedImage([number], **wrong)
    with pytest.raises(BadParameter, match="catalog"):
        spec.query(constraint="z > 1", catalog=5)
    for page in (None, 1.5, "x"):
        with pytest.raises(BadParameter, match=r"page=.* is not possible: a whole number"):
            spec.plotGrid([number], 2, 2, page=page)


def test_a_condition_that_is_none_is_refused(spec: SpecClient) -> None:
    for wrong in ("z >", "order by", "limit x", "z > 1 limit 2 order by z"):
        with pytest.raises(BadConstraint):
            spec.query(constraint=wrong)


def test_a_timeout_that_is_none_is_refused(served: Served, spec: SpecClient) -> None:
    number = int(served.ids[0])
    for wrong in (0, -1, float("nan")):
        with pytest.raises(BadParameter, match="timeout"):
            spec.query(constraint="z > 1", timeout=wrong)
        with pytest.raises(BadParameter, match="timeout"):
            spec.getSpec(number, timeout=wrong)
        with pytest.raises(BadParameter, match="timeout"):
            spec.preview(number, timeout=wrong)


def test_the_first_argument_has_both_of_its_names(served: Served, spec: SpecClient) -> None:
    """`preview(id)` and `plot(data)` in the description, `spec` in the old client."""
    plt.switch_backend("agg")
    number = int(served.ids[0])
    assert spec.preview(id=number) == spec.preview(spec=number) == spec.preview(number)
    for keywords in ({"data": number}, {"spec": number}):
        spec.plot(**keywords)
        assert str(number) in plt.gcf().axes[0].get_title(loc="left")
        plt.close("all")
    for call in (spec.preview, spec.plot):
        with pytest.raises(TypeError, match="one of the two"):
            call()
    with pytest.raises(TypeError, match="one of the two"):
        spec.preview(number, id=number)
