"""Spectra of several contexts in one request to the service: HTTP, as any dialect asks."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import urllib3
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from commands import command
from conftest import CONTEXTS, TwoSurveys
from serving import serve
from specserver.auth import Caller, set_private
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import BadParameter, MixedLattices, NotFound, TooMuch, UnknownContext
from specserver.formats.arrow import id_type
from specserver.ingest import run_ingest
from specserver.model.grid import LogLinear
from specserver.model.id_tuple import IdPattern
from specserver.service import QueryRequest, SpectroscopicService, id_lookup
from specserver.service.limits import Limits
from specserver.simulate import simulate_sdss
from specserver.wire.cells import unpack_blosc
from specserver.wire.columns import PART, PLACE
from specserver.wire.head import PartsHead, StreamHead, from_metadata, read_spectra_head
from test_damaged_spectra import flip_chunk
from test_generic_medium import UNIT, WAVE, write
from test_resample import resample

A, B = CONTEXTS
OLD, HIDDEN, OWN = "sdss_dr16", "desi_dr1", "own"
Record = npt.NDArray[Any]


class Api:
    """Requests to a service, and what its answers hold."""

    def __init__(self, url: str) -> None:
        self.url, self.pool = url, urllib3.PoolManager()

    def post(self, path: str, body: dict[str, Any], **headers: str) -> urllib3.BaseHTTPResponse:
        return self.pool.request("POST", f"{self.url}/{path}", json=body, headers=headers)

    def stream(self, **body: Any) -> tuple[StreamHead | PartsHead, pa.Table]:
        answer = self.post("bulk/spectra", body)
        assert answer.status == 200, answer.data
        with pa.ipc.open_stream(answer.data) as reader:
            table = reader.read_all()
        return read_spectra_head(from_metadata(table.schema.metadata)), table

    def spectra(self, **body: Any) -> list[Record]:
        """Return records, in the caller's order."""
        head, table = self.stream(**body)
        heads = head.parts if isinstance(head, PartsHead) else [head]
        found: dict[int, Record] = {}
        for at, row in enumerate(table.to_pylist()):
            found[row.get(PLACE, at)] = decoded(heads[row.get(PART, 0)], row)
        return [found[at] for at in sorted(found)]

    def refused(self, path: str = "bulk/spectra", **body: Any) -> tuple[int, dict[str, str]]:
        answer = self.post(path, body)
        return answer.status, answer.json()


def decoded(head: StreamHead, row: dict[str, Any]) -> Record:
    """Return the record of one row of a stream."""
    record = np.zeros(row["count"], head.dtype)
    skip = row["first"] - row["start"]
    for name in head.names:
        if name == head.grid.axis and row["on_lattice"]:
            record[name] = head.grid.axis_values(row["first"], row["count"])
        elif (cell := row[name]) is not None:
            dtype = head.dtype[name]
            if head.codec != "raw":
                cell = unpack_blosc(cell, row["width"] * dtype.itemsize)
            values = np.frombuffer(cell, dtype)
            record[name] = values[skip : skip + row["count"]]
    return record


@dataclass(frozen=True)
class Three:
    """A service over two releases of one survey, another survey, and a private context."""

    api: Api
    data: Path
    shared: list[int]
    """Identifiers that both releases hold."""
    targets: list[int]
    """Identifiers of the other survey."""
    older: list[int]
    """Identifiers that only the older release holds."""
    bad: int
    """One whose spectrum is damaged in the older release."""


@pytest.fixture(scope="module")
def three(
    two_surveys: TwoSurveys, mock_survey: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Three]:
    data = tmp_path_factory.mktemp("three-contexts") / "data"
    shutil.copytree(two_surveys.served.data, data)
    plate = min(path for path in mock_survey.rglob("spec-*") if path.is_file()).parent
    older = tmp_path_factory.mktemp("older")
    simulate_sdss(older, 6, seed=99)
    run_ingest(open_root(data), OLD, [plate, older], workers=1)
    shutil.copytree(data / B, data / HIDDEN)
    set_private(open_root(data), HIDDEN, private=True)
    # Files without errors and without a medium, in another unit and off every lattice.
    files = tmp_path_factory.mktemp("own")
    for name in ("a", "b"):
        write(files / f"{name}.fits")
    table = Table({"wave": WAVE * u.AA, "flux": np.ones(len(WAVE)) * UNIT})
    table.write(files / "c.ecsv", format="ascii.ecsv")
    command("ingest", OWN, files, "--reader", "specutils", "--data", data)
    service = SpectroscopicService(open_root(data))
    newer = service.query(QueryRequest(A, None, "", primary=False)).column(0).to_pylist()
    every = service.query(QueryRequest(OLD, None, "", primary=False)).column(0).to_pylist()
    held = [number for number in every if number in newer]
    only = [number for number in every if number not in newer]
    only = [number for number in only if service.resolve([number], OLD).on_lattice.all()]
    assert len(only) > 1
    targets = service.query(QueryRequest(B, None, "limit 3")).column(0).to_pylist()
    on = [one for one in held if service.resolve([one], OLD).on_lattice.all()]
    flip_chunk(data, OLD, on[-1])
    with serve(data, mock_survey, settings={"max_ids": 50}) as running:
        yield Three(Api(running.url), data, on[:-1], targets, only[:2], on[-1])


@pytest.fixture(scope="module")
def api(two_surveys: TwoSurveys) -> Api:
    return Api(two_surveys.served.url)


@pytest.fixture
def pair(two_surveys: TwoSurveys) -> tuple[int, int]:
    return two_surveys.pairs[0]


def alone(api: Api, context: str, number: int, **body: Any) -> Record:
    (one,) = api.spectra(ids=str(number), context=context, **body)
    return one


# --- Selecting and reading ----------------------------------------------------------------------


def test_each_spectrum_is_as_if_asked_for_alone(api: Api, pair: tuple[int, int]) -> None:
    a, b = pair
    text = f"{B}:{b}\n{a}\n{A}:{a}\n{B}:{b}"
    head, table = api.stream(ids=text, context=A)
    assert isinstance(head, PartsHead)
    assert [part.context for part in head.parts] == [B, A]
    assert (head.nspec, head.missing) == (4, ())
    assert table.column(PLACE).to_pylist() == [0, 3, 1, 2]
    assert table.column(PART).to_pylist() == [0, 0, 1, 1]
    mine, theirs = alone(api, A, a), alone(api, B, b)
    found = api.spectra(ids=text, context=A)
    assert [one.tobytes() for one in found] == [
        one.tobytes() for one in (theirs, mine, mine, theirs)
    ]
    few = api.spectra(ids=text, context=A, vectors=["flux"], cutout=[5000.0, 5100.0])
    kinds = {A: ("flux", "loglam"), B: ("flux", "wavelength")}
    expected = [
        alone(api, context, number, vectors=["flux"], cutout=[5000.0, 5100.0])
        for context, number in ((B, b), (A, a), (A, a), (B, b))
    ]
    assert [one.tobytes() for one in few] == [one.tobytes() for one in expected]
    assert few[0].dtype.names == kinds[B]


def test_a_list_of_one_context_is_answered_as_ever(api: Api, pair: tuple[int, int]) -> None:
    a, _ = pair
    plain = api.post("bulk/spectra", {"ids": str(a), "context": A}).data
    assert api.post("bulk/spectra", {"ids": f"{A}:{a}"}).data == plain
    assert api.post("bulk/spectra", {"ids": f"('{A}', {a})"}).data == plain


def test_tuples_and_duplicates_keep_their_order(api: Api, pair: tuple[int, int]) -> None:
    a, b = pair
    head, table = api.stream(ids=f"{A}:{a}\n{B}:({b}, *, *)\n{A}:{a}", context=B, columns=["z"])
    assert isinstance(head, PartsHead)
    order = np.argsort(table.column(PLACE).to_numpy())
    assert table.column("context").take(order).to_pylist() == [A, B, A]
    assert table.column("id").take(order).to_pylist() == [a, b, a]
    assert table.schema.field("col:z").type in {pa.float32(), pa.float64()}


WAYS = ("", "default:", f"{A}:", f"{OLD}:", f"{B}:")
"""Ways to state the context of an identifier."""


@pytest.mark.proof
@settings(max_examples=30)
@given(asked=st.lists(st.tuples(st.sampled_from(WAYS), st.integers(0, 2)), min_size=1, max_size=8))
@example(asked=[("default:", 0), (f"{A}:", 1), ("default:", 2)])
@example(asked=[(f"{A}:", 2), ("default:", 0), (f"{B}:", 0), ("", 1), (f"{A}:", 2)])
def test_any_mix_of_contexts_keeps_the_callers_order(
    three: Three, asked: list[tuple[str, int]]
) -> None:
    newest, older = three.shared[:2] + three.older[:1], three.older + three.shared[:1]
    held = {f"{OLD}:": older, f"{B}:": three.targets}
    spectra = [(way, held.get(way, newest)[which]) for way, which in asked]
    expected = []
    for way, number in spectra:
        default = OLD if number in three.older else A
        expected.append((way.rstrip(":") if way in held else default, number))
    ids = "\n".join(f"{way}{number}" for way, number in spectra)
    _, table = three.api.stream(ids=ids, context="default", vectors=["flux"])
    rows = sorted(enumerate(table.to_pylist()), key=lambda row: row[1].get(PLACE, row[0]))
    assert [(row["context"], row["id"]) for _, row in rows] == expected
    # So redshifts of the caller's are those of the same spectra, wherever their contexts stand.
    z = [0.05 * at for at in range(len(asked))]
    stated = "\n".join(f"{context}:{number}" for context, number in expected)
    pair = [stack(three.api, text, frame="rest", z=z) for text in (ids, stated)]
    assert pair[0]["count"] == pair[1]["count"]
    flux = [np.array(told["flux"], float) for told in pair]
    assert np.allclose(*flux, rtol=1e-5, equal_nan=True)


def test_what_is_missing_is_told_with_its_context(api: Api, pair: tuple[int, int]) -> None:
    a, b = pair
    text = f"{B}:{b}\n{A}:17\n{A}:{a}\n{B}:19"
    status, told = api.refused(ids=text)
    assert (status, told["code"]) == (404, "not_found")
    assert f"19 in {B}" in told["message"]
    head, table = api.stream(ids=text, missing="skip")
    assert set(head.missing) == {f"{A}:17", f"{B}:19"}
    assert sorted(table.column(PLACE).to_pylist()) == [0, 1]
    head, _ = api.stream(ids=f"default:19\n{A}:18\ndefault:17\n{A}:{a}", missing="skip")
    assert head.missing == ("19", "18", "17")
    status, told = api.refused(ids=f"{A}:{a}\nnonesuch:5")
    assert (status, told["code"]) == (404, "unknown_context")
    for number in ("1" * 5000, "١"):  # the second is Arabic
        expected = api.refused(ids=number)
        assert api.refused(ids=f"{A}:{number}") == expected
        assert expected[1]["code"] == "bad_identifier"
    status, told = api.refused(ids=str(2**64 - 1), context=B)
    assert f"targetid is a number from {-(2**63)} to {2**63 - 1}" in told["message"]
    status, told = api.refused(ids=f"{A}:{a}\n{B}:")
    assert (status, told["code"]) == (400, "bad_identifier")
    status, told = api.refused(ids=f"{A}:{a}\n{B}:{b}", vectors=["flux", "wdisp"])
    assert (status, told["code"]) == (400, "unknown_field")


@pytest.mark.parametrize("lost", [f"{OWN}:99", f"{B}:19"])
def test_contexts_of_which_all_is_missing_do_not_count(three: Three, lost: str) -> None:
    api, ids = three.api, [f"{A}:{number}" for number in three.shared[:2]]
    some = {"ids": "\n".join([lost, *ids, lost]), "missing": "skip"}
    for more in ({"align": True}, {"resample": True}, {"columns": ["plate"]}, {"vectors": ["sky"]}):
        head, table = api.stream(**some, **more)
        alone, expected = api.stream(ids="\n".join(ids), **more)
        assert (head.nspec, head.missing) == (2, (lost, lost))
        assert table.equals(expected)
        assert isinstance(head, StreamHead)
        assert isinstance(alone, StreamHead)
        assert (head.dtype, head.medium) == (alone.dtype, alone.medium)
    told = stack(api, some["ids"], missing="skip", method="ivar")
    assert told["about"]["weighted"]
    assert told["error"] == stack(api, "\n".join(ids), method="ivar")["error"]
    (own, *_) = rows_of(api.post("bulk/query", {"context": OWN})).column(0).to_pylist()
    # Nor do those whose spectra have no redshift.
    both = "\n".join([f"{OWN}:{own}", *ids])
    rest = stack(api, both, frame="rest", method="ivar", z=[None, 0.1, 0.2])
    expected = stack(api, "\n".join(ids), frame="rest", method="ivar", z=[0.1, 0.2])
    for name in ("weighted", "unit", "medium", "nused"):
        assert rest["about"][name] == expected["about"][name]
    for name in ("wavelength", "flux", "error", "count"):
        assert rest[name] == expected[name]
    page = {
        "id_list": "\n".join([*ids, f"{OWN}:{own}", f"{B}:{three.targets[0]}"]),
        "nx": 2,
        "ny": 1,
    }
    first = api.post("plotGrid", page)
    assert first.data == api.post("plotGrid", {**page, "id_list": "\n".join(ids)}).data
    second = api.post("plotGrid", {**page, "page": 1})
    assert second.status == first.status == 200
    status, answer = api.refused("bulk/stack", **{**some, "ids": f"{lost}\n{A}:17"})
    assert status == 404
    assert f"no spectrum for {lost}, {A}:17; so missing='skip' leaves" in answer["message"]
    status, answer = api.refused("bulk/stack", ids="", missing="skip", context=A)
    assert answer["message"] == f"no spectrum for an empty list in {A}; name one spectrum or more"


def test_identifiers_of_two_types_keep_their_digits() -> None:
    assert id_type("O") == pa.decimal128(20)
    values = np.array([2**64 - 1, -5], object)
    assert [int(one.as_py()) for one in pa.array(values, id_type("O"))] == [2**64 - 1, -5]


# --- One lattice --------------------------------------------------------------------------------


def test_two_lattices_are_not_shifted(api: Api, pair: tuple[int, int]) -> None:
    a, b = pair
    status, told = api.refused(ids=f"{B}:{b}\n{A}:{a}", align=True)
    assert (status, told["code"]) == (409, "mixed_lattices")
    assert f"{B}:{b}, {A}:{a}" in told["message"]


def test_resampled_spectra_are_those_that_are_resampled_one_by_one(
    api: Api, pair: tuple[int, int]
) -> None:
    a, b = pair
    head, table = api.stream(ids=f"{A}:{a}\n{B}:{b}\n{A}:{a}", resample=True)
    assert isinstance(head, StreamHead)
    assert (head.grid, head.codec, head.medium) == (LogLinear(1e-4), "raw", "vacuum")
    assert head.names == ("flux", "loglam", "ivar")
    assert table.column("context").to_pylist() == [A, B, A]
    assert set(table.column("first").to_pylist()) == {head.span.first}
    mine, theirs = alone(api, A, a), alone(api, B, b)
    first, second, third = (decoded(head, row) for row in table.to_pylist())
    at = int(np.flatnonzero(first["loglam"] == mine["loglam"][0])[0])
    for row in (first, third):
        for name in head.names:
            assert row[name][at : at + len(mine)].tobytes() == mine[name].tobytes()
    theirs["ivar"][theirs["mask"] != 0] = 0
    begin, fields = resample(theirs, theirs["wavelength"], head.grid)
    skip = begin - head.span.first
    for name in ("flux", "ivar"):
        expected = fields[name].astype(second.dtype[name])
        assert second[name][skip : skip + len(expected)].tobytes() == expected.tobytes()
    cut = api.spectra(ids=f"{A}:{a}\n{B}:{b}", resample=True, cutout=[5000.0, 5100.0])
    inside = np.isin(first["loglam"], cut[0]["loglam"])
    assert 0 < inside.sum() < 100
    for short, whole in zip(cut, (first, second), strict=True):
        assert short.tobytes() == whole[inside].tobytes()
    status, told = api.refused(ids=f"{A}:{a}\n{B}:{b}", resample=True, vectors=["flux", "and_mask"])
    assert (status, told["code"]) == (400, "bad_parameter")
    assert "masks that all have" in told["message"]


def test_two_releases_on_one_lattice_are_shifted(three: Three) -> None:
    api, number = three.api, three.shared[0]
    head, table = api.stream(ids=f"{OLD}:{number}\n{A}:{number}", align=True)
    assert isinstance(head, StreamHead)
    assert (head.context, head.survey, head.codec) == (f"{OLD}, {A}", "sdss", "blosc")
    assert table.column("context").to_pylist() == [OLD, A]
    one, two = (decoded(head, row) for row in table.to_pylist())
    assert one.tobytes() == two.tobytes() == alone(api, A, number).tobytes()
    # Unaligned, too, spectra of one survey are one part.
    plain, _ = api.stream(ids=f"{OLD}:{number}\n{A}:{number}")
    assert isinstance(plain, StreamHead)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"vectors": ["ivar"]}, f"{OWN}: unknown field 'ivar'"),
        ({"columns": ["plate"]}, "own: unknown field 'plate'"),
        ({"align": True}, "align='resample' (resample of POST /spec/bulk/spectra) lays them"),
    ],
)
def test_errors_name_the_context(three: Three, body: dict[str, Any], said: str) -> None:
    (own, *_) = rows_of(three.api.post("bulk/query", {"context": OWN})).column(0).to_pylist()
    status, told = three.api.refused(ids=f"{A}:{three.shared[0]}\n{OWN}:{own}", **body)
    assert status in {400, 409}
    assert said in told["message"]
    # Whatever is combined, spectra of an unknown medium are told with their context.
    combined = {"ids": f"{A}:{three.shared[0]}\n{OWN}:{own}", "norm": [5000, 5500]}
    status, told = three.api.refused("bulk/stack", frame="observed", **combined)
    assert f"spectra ({OWN}:{own})" in told["message"]
    status, told = three.api.refused("bulk/query", context=[A, "n" * 100_000])
    assert len(told["message"]) < 1000


def test_a_context_that_vanishes_is_not_listed(three: Three, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(three.data, data)
    archive = SpectroscopicService(open_root(data)).seen_by(Caller()).archive
    assert OWN in archive.names()
    shutil.rmtree(data / OWN)
    with pytest.raises(UnknownContext, match=f"'{OWN}'; known here: {B}, {A}, {OLD}$"):
        archive.survey(OWN)


# --- Limits, callers, damage --------------------------------------------------------------------


def test_limits_hold_for_the_whole_request(three: Three) -> None:
    pairs = [f"{A}:{number}" for number in three.shared[:2]] + [f"{B}:{three.targets[0]}"]
    status, told = three.api.refused(ids="\n".join(pairs * 20))
    assert (status, told["code"]) == (413, "too_much")
    assert "50" in told["message"]
    status, told = three.api.refused(ids="\n".join([*pairs * 16, f"{B}:(*, main, dark)"]))
    assert (status, told["code"]) == (413, "too_much")


def test_no_tuple_is_searched_for_twice_or_beyond_the_limit(
    two_surveys: TwoSurveys, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[IdPattern] = []

    def counted(survey: Any, release: Any, pattern: IdPattern, limits: Limits) -> Any:
        searched.append(pattern)
        return found(survey, release, pattern, limits)

    found = id_lookup._searched
    monkeypatch.setattr(id_lookup, "_searched", counted)
    data = open_root(two_surveys.served.data)
    plate = SpectroscopicService(data).query(QueryRequest(A, None, "limit 1", ("plate",)))
    ids = [f"{A}:({plate.column(0)[0]}, '*', '*')"]
    ids += [f"{B}:({b}, '*', '*')" for _, b in two_surveys.pairs]
    each = [SpectroscopicService(data).resolve(text, A).nspec for text in ids]
    assert each[0] > len(each)
    searched.clear()
    limit = sum(each[:3])
    service = SpectroscopicService(data, limits=Limits(max_ids=limit))
    assert service.resolve("\n".join(ids[:3]), A).nspec == limit
    assert len(searched) == 3
    searched.clear()
    with pytest.raises(TooMuch, match="too many spectra"):
        service.resolve("\n".join([*ids[:2], *ids[1:2] * 3, *ids[3:]]), A)
    assert len(searched) == 2


def test_a_private_context_is_not_there(three: Three) -> None:
    ids = f"{A}:{three.shared[0]}\n{HIDDEN}:5"
    status, told = three.api.refused(ids=ids)
    assert (status, told["code"]) == (404, "unknown_context")
    assert HIDDEN not in told["message"].partition(";")[2]
    assert three.api.refused(ids=ids.replace(HIDDEN, "nonesuch"))[0] == status
    status, told = three.api.refused("bulk/query", context=[A, HIDDEN])
    assert (status, told["code"]) == (404, "unknown_context")


def test_a_damaged_spectrum_is_named_with_its_context(three: Three) -> None:
    ids = f"{A}:{three.bad}\n{OLD}:{three.bad}\n{B}:{three.targets[0]}"
    answer = three.api.post("bulk/spectra", {"ids": ids})
    assert str(three.bad) in answer.data.decode("latin-1")
    assert b"damaged_spectrum" in answer.data
    head, table = three.api.stream(ids=ids, missing="skip")
    assert head.damaged == (f"{OLD}:{three.bad}",)
    assert sorted(table.column(PLACE).to_pylist()) == [0, 1]


# --- Files, composites, pictures, rows ----------------------------------------------------------


def test_files_of_several_contexts_have_names_of_their_own(three: Three) -> None:
    number, target = three.shared[0], three.targets[0]
    body = {"ids": f"{A}:{number}\n{B}:{target}\n{OLD}:{number}\n{A}:{number}", "fits": "rebuilt"}
    answer = three.api.post("bulk/files", body)
    assert answer.status == 200
    with pa.ipc.open_stream(answer.data) as reader:
        rows = reader.read_all().to_pylist()
    assert [row["context"] for row in rows] == [A, B, OLD, A]
    assert [row["id"] for row in rows] == [number, target, number, number]
    names = [row["name"] for row in rows]
    assert names[2] == f"{OLD}-{names[0]}"
    assert names[0] == names[3]
    for row in rows:
        with fits.open(BytesIO(row["data"])) as hdus:
            assert hdus[0].header["CONTEXT"] == row["context"]


def test_a_rebuilt_file_is_named_after_its_form(three: Three) -> None:
    own = rows_of(three.api.post("bulk/query", {"context": OWN})).column(0).to_pylist()
    names = {}
    for form in ("original", "rebuilt"):
        ids = "\n".join(f"{OWN}:{number}" for number in own)
        names[form] = set(
            rows_of(three.api.post("bulk/files", {"ids": ids, "fits": form}))["name"].to_pylist()
        )
    assert names["original"] == {"a.fits", "b.fits", "c.ecsv"}
    assert names["rebuilt"] == {"a.fits", "b.fits", "c.fits"}


def stack(api: Api, ids: str, **more: Any) -> dict[str, Any]:
    body = {"ids": ids, "frame": "observed", "step": 1e-4, **more}
    answer = api.post("bulk/stack", body, accept="application/json")
    assert answer.status == 200, answer.data
    told: dict[str, Any] = answer.json()
    return told


def test_a_composite_of_two_surveys(three: Three) -> None:
    ids = [f"{A}:{three.shared[0]}", f"{B}:{three.targets[0]}"]
    both = stack(three.api, "\n".join(ids))
    assert f"{A}, {B}" in json.dumps(both)
    flux = []
    for one in ids:
        told = stack(three.api, one)
        # Both are on one lattice, rounded so that its pixels can be told apart.
        place = dict(zip(np.round(told["wavelength"], 6), told["flux"], strict=True))
        flux.append([place.get(at) for at in np.round(both["wavelength"], 6)])
    mean = np.array(flux, float).mean(axis=0)
    usable = (np.array(both["count"]) == 2) & np.isfinite(mean)
    assert usable.sum() > 1000
    assert np.allclose(np.array(both["flux"], float)[usable], mean[usable], rtol=1e-5)


def test_a_composite_names_what_it_leaves_out_with_its_context(three: Three) -> None:
    names = [f"{A}:{three.shared[0]}", f"{B}:{three.targets[0]}", f"{B}:{three.targets[1]}"]
    body = {"ids": "\n".join(names), "z": [0.1, None, 0.1]}
    told = three.api.post("bulk/stack", body, accept="application/json").json()
    assert told["about"]["skipped"] == {"no redshift": {"count": 1, "ids": [names[1]]}}


def test_the_head_of_one_stream_says_survey_and_frame_of_each(three: Three) -> None:
    ids = f"{A}:{three.shared[0]}\n{B}:{three.targets[0]}"
    head, _ = three.api.stream(ids=ids, resample=True)
    assert isinstance(head, StreamHead)
    assert (head.surveys[A], head.surveys[B]) == ("sdss", "desi")
    sdss, desi = head.frame.split(" / ")
    assert sdss.endswith("heliocentric (sdss)")
    assert desi.endswith("barycentric (desi)")
    same, _ = three.api.stream(ids=f"{A}:{three.shared[0]}\n{OLD}:{three.shared[0]}", align=True)
    assert isinstance(same, StreamHead)
    assert (same.surveys, same.survey) == ({}, "sdss")
    assert same.frame.endswith("heliocentric")


def test_pictures_of_two_surveys(three: Three) -> None:
    ids = f"{A}:{three.shared[0]}\n{B}:{three.targets[0]}"
    for path, more in (("preview", {}), ("plotGrid", {"nx": 2}), ("stackedImage", {})):
        answer = three.api.post(path, {"id_list": ids, **more})
        assert answer.status == 200, answer.data
        assert Image.open(BytesIO(answer.data)).size[0] > 100
    # What is left out is named, whatever its name is.
    asked = f"{A}:{three.shared[0]}\n{OWN}:(7, 'é x')\n{A}:5"
    answer = three.api.post("plotGrid", {"id_list": asked, "nx": 1, "missing": "skip"})
    assert unquote(answer.headers["X-Missing"]) == f"2 {A}:5 {OWN}:(7, 'é x')"
    one = three.api.post("plotGrid", {"id_list": f"{A}:{three.shared[0]}", "nx": 1})
    assert one.data == three.api.post(
        "plotGrid", {"id_list": str(three.shared[0]), "context": A, "nx": 1}
    ).data  # fmt: skip
    array = three.api.post("stackedImage", {"id_list": ids, "fmt": "numpy"})
    rows = np.load(BytesIO(array.data))
    for row, context, number in zip(rows, (A, B), (three.shared[0], three.targets[0]), strict=True):
        flux = alone(three.api, context, number)["flux"]
        assert row[: len(flux)].tobytes() == flux.tobytes()
    refused = three.api.post("stackedImage", {"id_list": ids, "align": True})
    assert refused.status == 409


@pytest.fixture
def spec(three: Three) -> SpecClient:
    return SpecClient(A, svc_url=three.api.url)


@pytest.fixture
def mixed(three: Three) -> list[tuple[str, int]]:
    """Spectra of two surveys, of one of them twice, and of files of one's own."""
    (own, *_) = rows_of(three.api.post("bulk/query", {"context": OWN})).column(0).to_pylist()
    a, b = three.shared[0], three.targets[0]
    return [(B, b), (OWN, own), (A, a), (B, b)]


def test_the_client_draws_spectra_of_several_contexts(
    spec: SpecClient, mixed: list[tuple[str, int]], tmp_path: Path
) -> None:
    text = "\n".join(f"{context}:{number}" for context, number in mixed)
    forms: list[Any] = [mixed, text, Table(rows=mixed, names=["context", "id"])]
    for draw in (spec.preview, partial(spec.plotGrid, nx=2, ny=2)):
        drawn = draw(mixed)
        assert Image.open(BytesIO(drawn)).size[0] > 100
        assert [draw(form) for form in forms] == [drawn] * 3
        assert draw(mixed[::-1]) != drawn
        with pytest.warns(UserWarning, match=f"2 identifiers .* left out: {A}:5, {OWN}:7$"):
            assert draw([(A, 5), *mixed, (OWN, 7)], missing="skip") == drawn
        with pytest.raises(NotFound, match=f"no spectrum for 5 in {A}.*missing='skip'"):
            draw([(A, 5), *mixed, (OWN, 7)])
    last = spec.plotGrid(mixed, 1, 1, page=3)
    assert last == spec.plotGrid(mixed[:1], 1, 1) == spec.plotGrid(mixed[0][1], 1, 1, context=B)
    with pytest.raises(MixedLattices, match=r"cannot align .*getSpec with align='resample'"):
        spec.plotGrid(mixed, 2, 2, align=True)


def test_an_identifier_that_another_context_has_is_told(
    spec: SpecClient, mixed: list[tuple[str, int]]
) -> None:
    (_, b), (_, a) = mixed[0], mixed[2]
    hint = f"no spectrum for {b} in {A}.*; {B} has {b}: context='{B}' or '{B}:{b}' finds it"
    with pytest.raises(NotFound, match=hint) as alone:
        spec.getSpec(b)
    assert "the others" not in str(alone.value)
    assert alone.value.settings == (f"context='{B}'",)
    assert len(spec.getSpec(b, context=B)) == len(spec.getSpec(f"{B}:{b}")) > 0
    with pytest.raises(NotFound, match=r"missing='skip' returns the others; .* finds it$"):
        spec.getSpec([a, b])
    with pytest.raises(NotFound, match=f"no spectrum for 5 in {A}.*; check identifier and context"):
        spec.getSpec(5)


def test_the_client_stacks_images_of_several_contexts(
    spec: SpecClient, mixed: list[tuple[str, int]]
) -> None:
    ids = [pair for pair in mixed if pair[0] != OWN]
    rows = spec.stackedImage(ids, fmt="numpy")
    for row, (context, number) in zip(rows, ids, strict=True):
        flux = spec.getSpec(number, context=context)["flux"]
        assert row[: len(flux)].tobytes() == flux.tobytes()
        assert not row[len(flux) :].any()
    assert spec.stackedImage(ids, fmt="numpy", yflip=True).tobytes() == rows[::-1].tobytes()
    assert Image.open(BytesIO(spec.stackedImage(ids, scale=1))).size == rows.shape[::-1]
    for fmt in ("png", "numpy"):
        with pytest.raises(BadParameter, match=rf"in {B}, .* in {OWN}, .*one unit.*plotGrid"):
            spec.stackedImage(mixed, fmt=fmt)
    with pytest.raises(MixedLattices, match=f"{B}:{ids[0][1]}, {A}"):
        spec.stackedImage(ids, align=True)


def test_the_composite_of_the_client_is_that_of_the_service(
    spec: SpecClient, three: Three, mixed: list[tuple[str, int]], tmp_path: Path
) -> None:
    ids = [pair for pair in mixed if pair[0] != OWN]
    text = "\n".join(f"{context}:{number}" for context, number in ids)
    told = stack(three.api, text)
    made = spec.stack(ids, frame="observed", step=1e-4)
    assert made.flux.tobytes() == np.array(told["flux"], float).tobytes()
    assert made.wavelength.tolist() == told["wavelength"]
    assert made.count.tolist() == told["count"]
    assert (made.nspec, made.unit) == (3, told["about"]["unit"])
    assert made.meta["context"] == f"{B}, {A}"
    (drawn,), _ = made._drawn(None)
    assert drawn.title == f"mean of 3 spectra of {B}, {A}"
    with pytest.warns(UserWarning, match=f"1 of 4 identifiers .*{A}:5"):
        some = spec.stack([(A, 5), *ids], frame="observed", step=1e-4, missing="skip")
    # Sums may be in another order.
    np.testing.assert_allclose(some.flux, made.flux, rtol=1e-12)
    # Redshifts are of the spectra in the caller's order.
    z = [0.1, None, 0.3]
    with pytest.warns(UserWarning, match="1 with no redshift"):
        moved = spec.stack(ids, z=z)
    assert moved.skipped == {"no redshift": (ids[1],)}
    expected = spec.stack([ids[0], ids[2]], z=[0.1, 0.3])
    np.testing.assert_allclose(moved.flux, expected.flux, rtol=1e-12)
    with pytest.raises(BadParameter, match=rf"in {B}, .* in {OWN}, .*one unit, or norm= which"):
        spec.stack(mixed, frame="observed")
    with pytest.warns(UserWarning, match="some or all spectra state no uncertainties"):
        both = spec.stack(mixed, frame="observed", norm=(5000, 5500), assume_medium="vacuum")
    assert (both.nspec, both.unit, both.weighted) == (4, "", False)
    (tmp_path / "ids.txt").write_text(text)
    asked = ("--frame", "observed", "--url", three.api.url, "--out")
    command("stack", "--ids", tmp_path / "ids.txt", *asked, tmp_path / "a.npy")
    saved = np.load(tmp_path / "a.npy")
    assert saved.tobytes() == spec.stack(ids, frame="observed").to_numpy().tobytes()
    (tmp_path / "ids.txt").write_text("\n".join(f"{context}:{number}" for context, number in mixed))
    said = command("stack", "--ids", tmp_path / "ids.txt", *asked, tmp_path / "c.npy", code=2)
    assert "fluxes of one unit, or --norm which divides" in said
    where = ("--where", "z > 0.02 order by z limit 3", "--context", f"{A},{B}")
    said = command("stack", *where, *asked, tmp_path / "b.png")
    assert "CompositeSpectrum of 6 spectra" in said


def test_classic_arrays_of_two_surveys(three: Three) -> None:
    form = {"id_list": f"{B}:{three.targets[0]}\n{A}:{three.shared[0]}"}
    answer = three.api.pool.request(
        "POST", f"{three.api.url}/getSpec", fields=form, encode_multipart=False
    )
    assert answer.status == 200, answer.data
    body = BytesIO(answer.data)
    first, second = np.load(body), np.load(body)
    assert first.tobytes() == alone(three.api, B, three.targets[0]).tobytes()
    assert second.tobytes() == alone(three.api, A, three.shared[0]).tobytes()


def rows_of(answer: urllib3.BaseHTTPResponse) -> pa.Table:
    assert answer.status == 200, answer.data
    with pa.ipc.open_stream(answer.data) as reader:
        return reader.read_all()


def test_rows_of_two_contexts(three: Three) -> None:
    asked = {"constraint": "z > 0.02 order by z limit 3", "fields": ["z", "ra"]}
    table = rows_of(three.api.post("bulk/query", {**asked, "context": [A, B]}))
    assert table.column_names == ["context", "id", "z", "ra"]
    assert table.column("context").to_pylist() == [A] * 3 + [B] * 3
    assert table.schema.field("ra").metadata == {b"unit": b"deg"}
    for context, column in ((A, "specobjid"), (B, "targetid")):
        one = {**asked, "context": context, "fields": [column, "z"]}
        apart = rows_of(three.api.post("bulk/query", one))
        mine = table.filter(pa.compute.equal(table.column("context"), context))
        assert mine.column("id").to_pylist() == apart.column(column).to_pylist()
        assert mine.column("z").to_pylist() == apart.column("z").to_pylist()
    tuples = rows_of(
        three.api.post("bulk/query", {**asked, "context": [A, B], "fields": ["tuple"]})
    ).to_pylist()
    assert tuples[0]["plate"] is not None
    assert tuples[0]["survey"] is None
    assert tuples[-1]["survey"] is not None
    every = rows_of(
        three.api.post("bulk/query", {**asked, "context": [A, B], "fields": [], "primary": False})
    )
    assert every.column_names[:2] == ["context", "id"]
    assert set(every.column_names[2:]) == {"survey", "program", "coadd"}
    ids = [f"{row['context']}:{row['id']}" for row in table.to_pylist()]
    assert len(three.api.spectra(ids="\n".join(ids))) == 6


@pytest.mark.parametrize(
    ("fields", "match"),
    [(["plate"], f"{B}: unknown field"), (["tuple", "z"], "tuples come alone"), (["z", "nix"], A)],
)
def test_rows_that_cannot_be_one_table(three: Three, fields: list[str], match: str) -> None:
    status, told = three.api.refused("bulk/query", context=[A, B], fields=fields)
    assert status == 400
    assert match in told["message"]
