"""Several surveys in one call: qualified identifiers, one lattice, one query, one picture."""

import os
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from specutils import Spectrum, SpectrumCollection, SpectrumList

from conftest import CONTEXTS, TwoSurveys
from forked import run_forked
from serving import serve
from specserver.client.api import SpecClient
from specserver.client.inputs.context_ids import Named
from specserver.client.inputs.identifiers import IdentifierReader
from specserver.client.plots.overlay import spread_out
from specserver.data.root import open_root
from specserver.errors import (
    BadConstraint,
    BadIdentifier,
    BadParameter,
    BadRegion,
    MixedLattices,
    NoIdentifier,
    NotFound,
    SpecServerError,
    UnknownContext,
    UnknownField,
)
from specserver.ingest import run_ingest
from specserver.model.grid import Linear, LogLinear
from specserver.model.id_contexts import ContextText
from specserver.model.id_tables import Gaps
from specserver.model.ids import USUAL_FORM, IdForm
from specserver.ops.joining import join_ids
from specserver.ops.pixels import Edges, pixel_edges
from specserver.ops.resampling import any_bits
from specserver.render.display import DisplaySpectrum
from specserver.service.joint_query import names_of_others
from test_resample import edges_of, overlap_sums, resample

A, B = CONTEXTS
BIG = 39627322701125034
FORMS = {
    A: USUAL_FORM,
    B: IdForm("targetid", ("targetid", "survey", "program"), 2, has_reduction=False),
    "mine": IdForm("specid", ("name",), 1, has_reduction=False),
}


@pytest.fixture(scope="module")
def spec(two_surveys: TwoSurveys) -> SpecClient:
    return SpecClient(context=A, svc_url=two_surveys.served.url)


@pytest.fixture
def pair(two_surveys: TwoSurveys) -> tuple[int, int]:
    """Identifiers of one object in both surveys."""
    return two_surveys.pairs[0]


@pytest.fixture(autouse=True)
def no_figure_is_left() -> Iterator[None]:
    yield
    plt.close("all")


# --- Reading ------------------------------------------------------------------------------------


def read(given: Any, plain: str = A, id_col: str | None = None, gaps: Gaps | None = None) -> Named:
    def form_of(context: str) -> IdForm:
        if context not in FORMS:
            raise UnknownContext(context, list(FORMS))
        return FORMS[context]

    def read_vos(name: str) -> str:
        return f"{B}:{BIG}\n{A}:(266, 51602, 13)\n17000000000\n"

    contexts = ContextText(plain, form_of, FORMS.__contains__)
    return Named(*IdentifierReader(contexts, id_col, read_vos, gaps or Gaps()).read(given))


ONE: list[Any] = [
    f"{B}:{BIG}",
    f"  {B}:{BIG}  ",
    f"{B}:{BIG}".encode(),
    (B, BIG),
    (B, np.int64(BIG)),
    (B, str(BIG)),
    [B, BIG],
    Table({"context": [B], "id": [BIG]})[0],
    Table({"Context": [B], "targetid": [BIG], "z": [0.1]})[0],
    pd.DataFrame({"context": [B], "id": [BIG]}).iloc[0],
    np.array([(B, BIG)], [("context", "U9"), ("id", "i8")])[0],
]
EXACT: list[Any] = [
    f"{B}:({BIG}, 'sv3', 'dark')",
    f"{B}:{BIG},sv3,dark",
    (B, (BIG, "sv3", "dark")),
    f"('{B}', ({BIG}, 'sv3', 'dark'))",
]
TWO: list[Any] = [
    [f"{B}:{BIG}", f"{A}:5000000000"],
    [(B, BIG), (A, 5000000000)],
    [[B, BIG], [A, 5000000000]],
    [(B, BIG), 5000000000],
    [f"{B}:{BIG}", np.uint64(5000000000)],
    (f"{B}:{BIG}", f"{A}:5000000000"),
    iter([(B, BIG), (A, 5000000000)]),
    np.array([f"{B}:{BIG}", f"{A}:5000000000"]),
    np.array([(B, BIG), (A, 5000000000)], dtype=object),
    np.array([[B, str(BIG)], [A, "5000000000"]]),
    pd.Series([f"{B}:{BIG}", f"{A}:5000000000"]),
    Table({"context": [B, A], "id": [BIG, 5000000000]}),
    Table({"context": [B, A], "specobjid": [BIG, 5000000000]}),
    pd.DataFrame({"context": [B, A], "id": [str(BIG), "5000000000"], "z": [1, 2]}),
    np.array([(B, BIG), (A, 5000000000)], [("context", "U9"), ("id", "i8")]),
    f"{B}:{BIG}\n{A}:5000000000\n",
    f"# two\n{B}:{BIG}  # one\n\n5000000000",
    f"{B}:{BIG}, {A}:5000000000",
    f"['{B}:{BIG}', '{A}:5000000000']",
    f"[('{B}', {BIG}), ('{A}', np.uint64(5000000000))]",
    f"context,id,z\n{B},{BIG},0.1\n{A},5000000000,0.2\n",
    f"id context\n{BIG} {B}\n5000000000 {A}\n",
]


@pytest.mark.parametrize("form", ONE, ids=repr)
def test_one_identifier_of_a_context(form: Any) -> None:
    assert read(form) == Named([BIG], single=True, contexts=[B])


@pytest.mark.parametrize("form", EXACT, ids=repr)
def test_one_tuple_of_a_context(form: Any) -> None:
    named = read(form)
    assert (named.single, named.contexts) == (True, [B])
    assert [str(one) for one in named.ids] == [str(one) for one in read(EXACT[0]).ids]


@pytest.mark.parametrize(
    "form", TWO, ids=[f"{n} {type(one).__name__}" for n, one in enumerate(TWO)]
)
def test_identifiers_of_two_contexts(form: Any) -> None:
    known = {"id_col": "specobjid"} if isinstance(form, Table) and "id" not in form.colnames else {}
    assert read(form, **known) == Named([BIG, 5000000000], single=False, contexts=[B, A])


def test_files_of_identifiers(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text(f"{B}:{BIG}\n{A}:(266, 51602, 13)\n17000000000\n")
    for form in (path, str(path), "vos://ids.txt"):
        named = read(form)
        assert (named.single, named.contexts) == (False, [B, A, A])
        assert (named.ids[0], named.ids[2]) == (BIG, 17000000000)
    path.write_text("5\n6\n")
    assert read(path) == Named([5, 6], single=False)


def test_what_says_of_no_context_is_read_as_ever() -> None:
    for form in (5, [5, 6], np.array([5, 6]), "5", (266, 51602, 13), [(266, 51602, 13)] * 2):
        assert read(form).contexts is None
    assert len(read([5] * 3 + ["vos:5"[4:]]).ids) == 4


def test_a_list_holds_until_the_next_context() -> None:
    named = read(f"{B}:[{BIG}, {BIG}] {A}:(266,51602,13)")
    assert (len(named.ids), named.contexts) == (3, [B, B, A])
    assert read([[f"{B}:1", f"{A}:2"], 3]).contexts == [B, A, A]
    assert not read(f"{B}:({BIG}, *, *)").single


def test_where_spectra_have_names_only_contexts_that_are_there_count() -> None:
    assert read("a:b", "mine").contexts is None
    assert read(["a:b", "x"], "mine").contexts is None
    assert read(["a:b", f"{B}:5"], "mine").contexts == ["mine", B]


@pytest.mark.parametrize(
    "form", [f"{B}:", f"{B}:1.5", [(B, None)], [f"{B}:5", 1.5], f"{B}:nonsense"], ids=repr
)
def test_refused(form: Any) -> None:
    with pytest.raises(BadIdentifier):
        read(form)


@pytest.mark.parametrize("number", ["1" * 5000, "9" * 20, "١"])  # the last is Arabic
def test_numbers_are_read_alike_with_and_without_a_context(number: str) -> None:
    for form in (number, f"{B}:{number}", (B, number), [(B, number)]):
        with pytest.raises(BadIdentifier, match=r"64 bits|whole number"):
            read(form)


def test_refused_tables() -> None:
    with pytest.raises(BadIdentifier, match="not all of"):
        read(f"context,id\n{B}\n")
    with pytest.raises(UnknownField, match="number"):
        read(Table({"context": [B], "other": [5], "more": [6]}), id_col="number")


NO_CONTEXT: list[Any] = [
    Table({"context": np.ma.array([B, ""], mask=[0, 1]), "id": [BIG, 5000000000]}),
    Table({"context": [B, ""], "id": [BIG, 5000000000]}),
    pd.DataFrame({"context": [B, None], "id": [BIG, 5000000000]}),
    pd.DataFrame({"context": [B, np.nan], "id": [str(BIG), "5000000000"]}),
    pa.table({"context": [B, None], "id": [BIG, 5000000000]}),
    np.array([(B, BIG), ("", 5000000000)], [("context", "U9"), ("id", "i8")]),
    np.array([(B, BIG), ("", 5000000000)], [("context", "S9"), ("id", "i8")]),
    f"context,id\n{B},{BIG}\n,5000000000\n",
    [Table({"context": [B], "id": [BIG]})[0], Table({"context": [""], "id": [5000000000]})[0]],
]


@pytest.mark.parametrize("form", NO_CONTEXT, ids=lambda form: type(form).__name__)
def test_a_row_without_a_context_is_of_none(form: Any) -> None:
    with pytest.raises(NoIdentifier, match="row 1 has no context"):
        read(form)
    gaps = Gaps(skip=True)
    assert read(form, gaps=gaps) == Named([BIG], single=False, contexts=[B])
    assert (gaps.rows, gaps.lacking) == ([1], ["context"])


def test_bytes_name_contexts_too() -> None:
    given = np.array([(b"desi_edr", BIG, b"sv3", b"dark")] * 2, "S10,i8,S4,S5")
    given.dtype.names = ("context", "targetid", "survey", "program")
    for form in (given, Table(given)):
        assert read(form).contexts == [B, B]
        assert [str(one) for one in read(form).ids] == [str(read(EXACT[0]).ids[0])] * 2
    assert read(given[0]).contexts == [B]


def test_a_table_of_no_rows_is_an_empty_list(tmp_path: Path) -> None:
    for text in ("context,id\n", "context,id,z,class", "id context ra", "context,specobjid,z"):
        (tmp_path / "e.csv").write_text(text)
        assert read(tmp_path / "e.csv") == read(text) == Named([], single=False)
    with pytest.raises(BadIdentifier):
        read("context,z")


# --- Arithmetic ---------------------------------------------------------------------------------

LATTICES = st.one_of(
    st.builds(LogLinear, st.sampled_from([1e-4, 3e-4])),
    st.builds(Linear, st.floats(3600, 3601), st.sampled_from([0.8, 1.7])),
)


def record_of(npix: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    record = np.zeros(npix, [("flux", "f8"), ("ivar", "f8"), ("mask", "u4")])
    record["flux"], record["ivar"] = rng.normal(size=npix), rng.uniform(0.1, 9, npix)
    record["mask"] = 1 << rng.integers(0, 32, npix)
    return record


@given(LATTICES, LATTICES, st.integers(2, 300), st.integers(0, 99), st.floats(-1e3, 1e3))
def test_a_constant_stays_constant(source, target, npix, seed, level) -> None:
    record = record_of(npix, seed)
    record["flux"] = level
    first = round(source.position(4000.0))
    _, fields = resample(record, source.wave(first, npix), target)
    assert np.allclose(fields["flux"][fields["ivar"] > 0], level, rtol=1e-9)
    assert not fields["flux"][fields["ivar"] == 0].any()


@given(LATTICES, LATTICES, st.integers(30, 300), st.integers(0, 99))
def test_flux_is_conserved_between_edges_and_variance_is_of_independent_pixels(
    source, target, npix, seed
) -> None:
    record = record_of(npix, seed)
    wave = source.wave(round(source.position(4000.0)), npix)
    first, fields = resample(record, wave, target)
    usable = np.flatnonzero(fields["ivar"])
    assert len(usable) > 1
    wanted = pixel_edges(target.wave(first - 1, len(fields["flux"]) + 2)).wave[1:-1]
    edges = pixel_edges(wave).wave
    low, high = wanted[usable[0]], wanted[usable[-1] + 1]
    before = np.sum(record["flux"] * np.diff(np.clip(edges, low, high)))
    after = np.sum((fields["flux"] * np.diff(wanted))[usable])
    assert after == pytest.approx(before, rel=1e-8, abs=1e-8)
    # The rule, pixel by pixel and slowly.
    at = int(usable[len(usable) // 2])
    part = np.diff(np.clip(edges, wanted[at], wanted[at + 1])) / (wanted[at + 1] - wanted[at])
    assert 1 / fields["ivar"][at] == pytest.approx(np.sum(part**2 / record["ivar"]), rel=1e-6)
    bits = np.bitwise_or.reduce(record["mask"][part > 1e-9])
    assert fields["mask"][at] == bits


@given(st.integers(2, 60), st.integers(1, 60), st.integers(0, 99))
def test_masks_have_the_bits_of_all_pixels_below(npix, count, seed) -> None:
    rng = np.random.default_rng(seed)
    edges, wanted = np.sort(rng.uniform(0, 9, npix + 1)), np.sort(rng.uniform(-1, 10, count + 1))
    mask = rng.integers(0, 2**16, npix).astype(np.uint16)
    found = any_bits(mask, Edges.without_gaps(edges), wanted)
    for pixel in range(count):
        under = (edges[1:] > wanted[pixel]) & (edges[:-1] < wanted[pixel + 1])
        assert found[pixel] == np.bitwise_or.reduce(mask[under], initial=0)


def test_identifiers_of_signed_and_unsigned_types_keep_every_digit() -> None:
    large, small = np.array([2**64 - 1], np.uint64), np.array([BIG], np.int64)
    assert join_ids([large, small]).tolist() == [2**64 - 1, BIG]
    assert join_ids([small, small]).dtype == np.int64
    assert join_ids([large[:0], small]).dtype == np.uint64
    assert join_ids([np.array([5], np.uint64), -small]).dtype == np.int64
    assert join_ids([large, -small]).tolist() == [2**64 - 1, -BIG]


# --- Fetching -----------------------------------------------------------------------------------


def test_each_spectrum_is_as_if_fetched_alone(spec: SpecClient, pair: tuple[int, int]) -> None:
    a, b = pair
    mine, theirs = spec.getSpec(a), spec.getSpec(b, context=B)
    assert spec.getSpec(f"{B}:{b}").tobytes() == theirs.tobytes()
    assert spec.getSpec((B, b)).dtype.names == ("flux", "wavelength", "ivar", "mask")
    for form in ([(B, b), a, (A, a), f"{B}:{b}"], f"{B}:{b}\n{a}\n{A}:{a}\n{B}:{b}"):
        found = spec.getSpec(form)
        assert [one.tobytes() for one in found] == [
            one.tobytes() for one in (theirs, mine, mine, theirs)
        ]
    assert [len(one) for one in spec.getSpec([(B, b), (B, b)])] == [7781, 7781]
    few = spec.getSpec([(B, b), (A, a)], values="flux,ivar")
    assert [one.dtype.names for one in few] == [("flux", "ivar")] * 2


def test_tuples_and_wildcards_of_two_contexts(spec: SpecClient, pair: tuple[int, int]) -> None:
    a, b = pair
    query = {"context": [A, B], "fields": "tuple", "constraint": "z > 0.02 limit 3"}
    tuples = spec.query(**query)
    assert [len(parts) for _, parts in tuples] == [4, 4, 4, 4, 4, 4]
    assert [len(one) > 3000 for one in spec.getSpec(tuples)] == [True] * 6
    found = spec.getSpec([(A, a), (B, (b, "*", "*")), f"{A}:{a}", (B, (b,))])
    assert [len(one) == 7781 for one in found] == [False, True, False, True]


@pytest.mark.parametrize(
    ("fmt", "kind"), [("pandas", pd.DataFrame), ("Table", Table), ("Spectrum1D", Spectrum)]
)
def test_formats_of_two_surveys(spec, pair, fmt, kind) -> None:
    found = spec.getSpec([(B, pair[1]), (A, pair[0])], fmt=fmt)
    assert isinstance(found, list)
    assert all(isinstance(one, kind) for one in found)
    about = [one.attrs if kind is pd.DataFrame else one.meta for one in found]
    assert [(one["context"], one["id"]) for one in about] == [(B, pair[1]), (A, pair[0])]


def test_lists_and_files_of_two_surveys(spec: SpecClient, pair: tuple[int, int]) -> None:
    ids = [(B, pair[1]), (A, pair[0])]
    listed = spec.getSpec(ids, fmt="SpectrumList")
    assert isinstance(listed, SpectrumList)
    assert [one.meta["context"] for one in listed] == [B, A]
    files = spec.getSpec(ids, fmt="FITS", fits="rebuilt")
    for data in files:
        with fits.open(BytesIO(data)) as hdus:
            assert len(hdus) > 1


def test_out_keeps_the_names_of_the_server(spec, pair, tmp_path: Path) -> None:
    ids = [(B, pair[1]), (A, pair[0]), (A, pair[0])]
    for number, how in enumerate(({}, {"align": "resample"}, {"fmt": "FITS", "fits": "rebuilt"})):
        folder = tmp_path / str(number)
        assert spec.getSpec(ids, out=folder, **how) == "OK"
        names = sorted(path.name for path in folder.iterdir())
        assert [name.partition("-")[0] for name in names] == ["coadd", "spec"]
    saved = [np.load(path) for path in sorted((tmp_path / "0").iterdir())]
    assert saved[0].tobytes() == spec.getSpec(ids[0]).tobytes()


def test_missing_ones_are_told_of_their_context(spec: SpecClient, pair: tuple[int, int]) -> None:
    a, b = pair
    ids = [(B, b), (A, 17), (A, a), (B, 19), (B, b), (A, 17)]
    with pytest.raises(NotFound, match=f"17 in {A}"):
        spec.getSpec([(B, b), (A, 17)])
    with pytest.warns(UserWarning, match="not found") as told:
        found = spec.getSpec(ids, missing="skip")
    (warning,) = told
    assert all(
        f"{context}:{number}" in str(warning.message) for context, number in [(A, 17), (B, 19)]
    )
    assert [len(one) == 7781 for one in found] == [True, False, True]
    with pytest.warns(UserWarning, match="not found"):
        assert spec.getSpec(ids, missing="skip", align="resample").shape[0] == 3
    with pytest.raises(UnknownContext, match="nonesuch"):
        spec.getSpec([("nonesuch", 5), (A, a)])
    with pytest.raises(BadParameter, match="context:id"):
        spec.getSpec([a], context=[A, B])


# --- One lattice --------------------------------------------------------------------------------


def test_two_lattices_are_resampled_and_not_shifted(spec, pair) -> None:
    a, b = pair
    for how in ({"align": True}, {"cutout": (5000, 5100)}, {"fmt": "SpectrumCollection"}):
        with pytest.raises(MixedLattices, match=f"{B}:{b}, {A}:{a}.*align='resample'"):
            spec.getSpec([(B, b), (A, a)], **how)
    mine, theirs = spec.getSpec(a), spec.getSpec((B, b))
    made = spec.getSpec([(A, a), (B, b), (A, a)], align="resample")
    assert made.dtype.names == ("flux", "loglam", "ivar")
    at = int(np.flatnonzero(made["loglam"][0] == mine["loglam"][0])[0])
    for row in (0, 2):
        for name in made.dtype.names:
            assert made[name][row, at : at + len(mine)].tobytes() == mine[name].tobytes()
    # The result has no mask of theirs, so what it marks has no weight.
    theirs["ivar"][theirs["mask"] != 0] = 0
    _, expected = resample(theirs, theirs["wavelength"], LogLinear(1e-4))
    good = made["ivar"][1] > 0
    assert good.sum() == (expected["ivar"] > 0).sum() > 4000
    assert np.allclose(made["flux"][1][good], expected["flux"][expected["ivar"] > 0], rtol=1e-6)
    assert np.allclose(made["ivar"][1][good], expected["ivar"][expected["ivar"] > 0], rtol=1e-6)


def test_the_lattice_is_that_of_the_first(spec: SpecClient, pair: tuple[int, int]) -> None:
    a, b = pair
    theirs = spec.getSpec((B, b))
    made = spec.getSpec([(B, b), (A, a)], align="resample")
    assert made.dtype.names == ("flux", "wavelength", "ivar")
    at = int(np.flatnonzero(made["wavelength"][0] == 3600.0)[0])
    theirs["ivar"][theirs["mask"] != 0] = 0
    for name in made.dtype.names:
        assert made[name][0, at : at + 7781].tobytes() == theirs[name].tobytes()
    assert (made["ivar"][1] > 0).sum() > 6000


def test_resampled_spectra_agree_where_the_surveys_do(two_surveys: TwoSurveys, spec) -> None:
    # Mock surveys share the object's redshift, not its brightness: lines fall at one wavelength.
    for a, b in two_surveys.pairs[:2]:
        made = spec.getSpec([(A, a), (B, b)], fmt="Spectrum1D", align="resample")
        assert made.flux.shape[0] == 2
        assert made.meta["context"] == [A, B]
        assert np.abs(np.diff(made.meta["redshift"]))[0] < 2e-3


def test_resampled_cutouts_have_no_ragged_ends(spec: SpecClient, pair: tuple[int, int]) -> None:
    ids = [(A, pair[0]), (B, pair[1])]
    made = spec.getSpec(ids, align="resample", cutout=(5000, 5100), values="flux,ivar,loglam")
    wave = 10 ** made["loglam"][0].astype(float)
    assert 5000 <= wave[0] < 5001.2
    assert 5098.8 < wave[-1] <= 5100
    whole = spec.getSpec(ids, align="resample")
    inside = np.isin(whole["loglam"][0], made["loglam"][0])
    for name in made.dtype.names:
        assert np.array_equal(made[name], whole[name][:, inside])


def test_resampled_formats(spec: SpecClient, pair: tuple[int, int]) -> None:
    ids = [(A, pair[0]), (B, pair[1])]
    plain = spec.getSpec(ids, align="resample")
    made = spec.getSpec(ids, fmt="SpectrumCollection", align="resample")
    assert isinstance(made, SpectrumCollection)
    assert np.array_equal(made.flux.value, plain["flux"])
    assert [one["context"] for one in made.meta] == [A, B]
    assert [one["id"] for one in made.meta] == list(pair)
    assert [meta["survey"] for meta in made.meta] == ["sdss", "desi"]
    tables = spec.getSpec(ids, fmt="Table", align="resample")
    assert [table.meta["survey"] for table in tables] == ["sdss", "desi"]
    assert "heliocentric (sdss) / " in plain.about.frame
    assert plain.about.frame.endswith("barycentric (desi)")
    frames = spec.getSpec(ids, fmt="pandas", align="resample")
    assert [len(one) for one in frames] == [plain.shape[1]] * 2
    with pytest.raises(BadParameter, match=r"and_mask.*masks that all have"):
        spec.getSpec(ids, align="resample", values="flux,and_mask")


def test_contexts_on_one_lattice_are_shifted(spec: SpecClient, pair: tuple[int, int]) -> None:
    # The context "default" is the newest release of its survey, here the same as its name.
    ids = [("default", pair[0]), (A, pair[0])]
    made = spec.getSpec(ids, align=True)
    alone = spec.getSpec([pair[0], pair[0]], align=True)
    assert made.tobytes() == alone.tobytes()
    few = spec.getSpec(ids, cutout=(5000, 5100), values="flux,sky")
    assert few.dtype.names == ("flux", "sky")
    with pytest.raises(UnknownField, match="nonesuch"):
        spec.getSpec(ids, align=True, values="nonesuch")


def test_one_arm_is_a_spectrum(spec: SpecClient, pair: tuple[int, int]) -> None:
    whole = spec.getSpec((B, pair[1]))
    arm = spec.getSpec((B, pair[1]), fmt="Spectrum1D", values="flux_b,ivar_b,mask_b")
    assert arm.flux.shape == (2751,)
    assert arm.spectral_axis[0] == 3600 * u.AA
    assert np.array_equal(arm.flux.value[:2000], whole["flux"][:2000])
    assert np.array_equal(arm.mask, (arm.uncertainty.array == 0) | (arm.meta["mask"] != 0))
    ids = [(B, pair[1])] * 2
    many = spec.getSpec(ids, fmt="Spectrum1D", values="flux_z,ivar_z", align=True)
    assert many.flux.shape == (2, 2881)
    with pytest.raises(BadParameter, match="flux_b"):
        spec.getSpec((B, pair[1]), fmt="Spectrum1D", values="flux_b,flux_r")


# --- Real files ---------------------------------------------------------------------------------

RELATIVE = "lamost_dr5"
"""A context whose fluxes have no unit."""


@pytest.fixture(scope="module")
def real(
    real_data: Path, real_spectra: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SpecClient]:
    """A client of a service over real files of three surveys."""
    data = tmp_path_factory.mktemp("three") / "data"
    shutil.copytree(real_data / A, data / A)
    run_ingest(open_root(data), B, sorted((real_spectra / "desi").glob("coadd-*.fits")), workers=1)
    low = sorted((real_spectra / "other").glob("spec-*.fits*"))
    run_ingest(open_root(data), RELATIVE, low, workers=1)
    with serve(data, real_spectra) as running:
        yield SpecClient(context=A, svc_url=running.url)


def test_real_spectra_of_three_surveys(real: SpecClient) -> None:
    named = [
        (context, number)
        for context in (A, B, RELATIVE)
        for number in real.query(constraint="limit 3", context=context, primary=False).tolist()
    ]
    named = named[::2] + named[1::2]
    for (context, number), found in zip(named, real.getSpec(named), strict=True):
        assert found.tobytes() == real.getSpec(number, context=context).tobytes()
    with pytest.raises(BadParameter, match=f"no unit in {RELATIVE}.*one unit"):
        real.getSpec(named, align="resample")
    two = [one for one in named if one[0] != B][:4]
    assert {context for context, _ in two} == {A, RELATIVE}
    with pytest.raises(BadParameter, match="scale='median'"):
        real.plot(two)
    real.plot(two, scale="median")


def test_real_spectra_are_resampled_as_an_independent_computation_says(real: SpecClient) -> None:
    number = real.query(constraint="coadd_fiberstatus = 0 and zwarn = 0 limit 1", context=B)[0]
    other = real.query(constraint="limit 1", context=A)[0]
    one = real.getSpec((B, number))
    row = real.getSpec([(A, other), (B, number)], align="resample")[1]
    target = 10 ** (np.round(row["loglam"].astype(float) * 1e4) * 1e-4)
    edges, wanted = edges_of(one["wavelength"]), edges_of(target)
    with np.errstate(divide="ignore"):
        variance = 1.0 / one["ivar"].astype(float)
    weight, mean, spread = overlap_sums(edges, wanted, one["flux"].astype(float), variance)
    usable = row["ivar"] > 0
    assert usable.sum() > 4000
    assert np.allclose(row["flux"][usable], mean[usable], rtol=1e-5, atol=1e-6)
    assert np.allclose(row["ivar"][usable], 1 / spread[usable], rtol=1e-5)
    assert (weight / np.diff(wanted))[usable].min() >= 0.5 - 1e-9


# --- Queries ------------------------------------------------------------------------------------


def test_a_query_of_two_contexts(spec: SpecClient) -> None:
    condition = "z > 0.02 order by z limit 3"
    pairs = spec.query(constraint=condition, context=[A, B])
    assert [context for context, _ in pairs] == [A] * 3 + [B] * 3
    for context in CONTEXTS:
        alone = spec.query(constraint=condition, context=context).tolist()
        assert [number for name, number in pairs if name == context] == alone
    assert spec.query(constraint=condition, context=f"{A}, {B}") == pairs
    assert [len(one) for one in spec.getSpec(pairs)][3:] == [7781] * 3
    assert spec.query(constraint=condition, context=[A]) == pairs[:3]


def test_a_table_of_two_contexts(spec: SpecClient, two_surveys: TwoSurveys) -> None:
    condition = "z > 0.02 order by z limit 3"
    table = spec.query(constraint=condition, context=[A, B], fields="ra,z,class")
    assert table.colnames == ["context", "id", "ra", "z", "class"]
    for context, name in zip(CONTEXTS, ("class", "spectype"), strict=True):
        mine = table[table["context"] == context]
        alone = spec.query(constraint=condition, context=context, fields=f"ra,z,{name}")
        for column, other in zip(mine.colnames[2:], alone.colnames[1:4], strict=True):
            assert np.array_equal(mine[column], alone[other])
    assert len(spec.getSpec(table)) == 6
    assert spec.query(constraint=condition, context=[A, B], fields="z").colnames[2:] == ["z"]
    every = spec.query(constraint=condition, context=[A, B], fields="*").colnames
    assert every[:2] == ["context", "id"]
    assert {"ra", "dec", "z"} < set(every)
    a, b = two_surveys.pairs[0]
    ra, dec = spec.query(constraint=f"specobjid = {a}", fields="ra,dec")[0].as_void().item()[1:]
    assert (A, a) in spec.query(ra, dec, 1 / 3600, context=[A, B])
    assert (B, b) in spec.query(ra, dec, 1 / 3600, context=[A, B])


NAMES = {
    "class": ("class", "spectype"),
    "Spectype": ("class", "spectype"),
    "subtype": ("subclass", "subtype"),
    "zwarn": ("zwarning", "zwarn"),
    "zwarning": ("zwarning", "zwarn"),
    "z_err": ("zerr", "zerr"),
    "target_ra": ("ra", "ra"),
}
"""Names of columns, and the column that each means in both contexts."""


@pytest.mark.parametrize("name", NAMES)
def test_names_of_each_survey_are_those_of_the_others(spec: SpecClient, name: str) -> None:
    condition = "{} is not null order by z, {} limit 3"
    asked = condition.format(name, name)
    table = spec.query(constraint=asked, context=[A, B], fields=f"z,{name}")
    assert table.colnames[2:] == ["z", name]
    for context, column in zip(CONTEXTS, NAMES[name], strict=True):
        mine = table[table["context"] == context]
        own = condition.format(column, column)
        alone = spec.query(constraint=own, context=context, fields=f"z,{column}")
        assert len(mine) == 3
        assert np.array_equal(mine[name], alone[column])


def test_a_name_that_would_mean_two_columns_means_none() -> None:
    here = {"class": "class", "kind": "kind", "z": "z"}
    there = {"class": "spectype", "spectype": "spectype", "z": "z"}
    other = {"kind": "spectype", "spectype": "spectype", "redshift": "z", "z": "z"}
    assert names_of_others(here, [here, there]) == {"spectype": "class"}
    assert names_of_others(here, [here, there, other]) == {"redshift": "z"}
    assert names_of_others(there, [here]) == {}


def test_files_of_a_query_are_read_again(spec: SpecClient, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"constraint": "z > 0.02 order by z limit 2", "context": [A, B]}
    expected = [one.tobytes() for one in spec.getSpec(spec.query(**asked))]
    for fields in (None, "tuple", "z,ra"):
        path = tmp_path / f"{fields}.csv"
        assert spec.query(**asked, fields=fields, out=path) == "OK"
        assert [one.tobytes() for one in spec.getSpec(path)] == expected
    assert path.read_text().splitlines()[0] == "context,id,z,ra"
    assert (tmp_path / "None.csv").read_text().startswith(f"{A}:")
    for ending in ("txt", "csv", "fits", "ecsv", "parquet", "vot"):
        path = tmp_path / f"empty.{ending}"
        spec.query(constraint="z > 99", context=[A, B], fields="z,ra", out=path)
        assert spec.getSpec(path) == []


def test_errors_of_a_query_name_the_context(spec: SpecClient) -> None:
    with pytest.raises(UnknownField, match=f"{B}: unknown field 'plate'"):
        spec.query(constraint="plate > 3", context=[A, B])
    with pytest.raises(UnknownContext, match="nonesuch"):
        spec.query(constraint="z > 3", context=[A, "nonesuch"])
    with pytest.raises(BadParameter, match="tuples come alone"):
        spec.query(constraint="z > 3", context=[A, B], fields="tuple,z")
    with pytest.raises(BadParameter, match="name one context"):
        spec.query(constraint="z > 3", context=[])


# --- Pictures -----------------------------------------------------------------------------------


def test_pictures_and_composites_of_the_service(spec: SpecClient, pair) -> None:
    a, b = pair
    assert spec.preview(f"{B}:{b}") == spec.preview(b, context=B)
    assert spec.plotGrid([(B, b)] * 2, 2, 1) == spec.plotGrid([b] * 2, 2, 1, context=B)
    image = spec.stackedImage([(B, b)] * 2, fmt="numpy", align=True)
    assert image.shape == (2, 7781)
    two = [(A, a), (B, b)]
    for draw in (spec.preview, lambda ids: spec.plotGrid(ids, 1, 2), spec.stackedImage):
        assert bytes(draw(two)).startswith(b"\x89PNG")
    combine = spec.stack
    made = combine([*two, ("default", a)], frame="observed")
    assert made.nspec == 3
    assert made.count.max() == 3
    with pytest.warns(UserWarning, match="left out of the composite"):
        some = combine([*two, (B, b)], z=[0.1, np.nan, 0.1])
    assert list(some.skipped.values()) == [((B, b),)]


def test_errors_of_a_mixed_list_say_what_helps(spec: SpecClient, pair, tmp_path: Path) -> None:
    a, b = pair
    with pytest.raises(UnknownField, match=f"^{B}: unknown field 'loglam'.*wavelength"):
        spec.getSpec([(A, a), (B, b)], values="flux,loglam")
    for form in (f"{B.upper()}:{b}", (B.upper(), b), [(A, a), ("Desi_EDR", b)]):
        with pytest.raises(BadIdentifier, match=f"names of contexts are in lower case: '{B}'"):
            spec.getSpec(form)
    with pytest.raises(BadIdentifier) as refused:
        spec.getSpec("NGC1068:5")
    assert "lower case" not in refused.value.message
    with pytest.raises(BadParameter, match=r"these spectra are in vacuum.*'resample' brings"):
        spec.getSpec([a, a], align=True, medium="air")
    with pytest.raises(BadParameter, match="'1 deg' was taken for the condition"):
        spec.query(180.0, 2.0, "1 deg")
    with pytest.raises(UnknownField, match="did you mean the text 'QSO'"):
        spec.query(constraint="class = QSO")
    with pytest.raises(SpecServerError, match="such as http://host:6998/spec"):
        SpecClient(svc_url=spec.get_svc_url().removesuffix("/spec")).list_contexts()
    for call in (
        lambda: spec.query(constraint="z > 0", timeout=np.inf),
        lambda: spec.match(([1.0], [2.0]), timeout=np.inf),
        lambda: spec.match(([1.0], [2.0]), radius=np.nan),
        lambda: spec.query(0.0, 0.0, 1.0, timeout=np.nan),
        lambda: spec.stackedImage([a], scale=np.inf),
    ):
        with pytest.raises(BadParameter):
            call()


def test_a_cutout_without_pixels_is_told(spec: SpecClient, pair, tmp_path: Path) -> None:
    a, b = pair
    with pytest.warns(UserWarning, match="2 of 2 spectra have no pixel in the cutout, 20000-30000"):
        assert spec.getSpec([a, a], cutout="20000-30000").shape == (2, 0)
    for how in ({}, {"out": tmp_path / "cut"}):
        with pytest.warns(UserWarning, match="1 of 2 spectra have no pixel in the cutout"):
            spec.getSpec([(A, a), (B, b)], cutout=(3650, 3655), align=False, **how)


def test_a_folder_is_not_named_like_a_file(spec: SpecClient, pair, tmp_path: Path) -> None:
    a, _ = pair
    for ids, out, fmt, match in (
        ([a, a], "res.fits", "numpy", r"a file \.npy: name a folder$"),
        ([a, a], "res.fits", "FITS", r"a file \.fits: name a folder$"),
        (a, "res.fits", "numpy", r"a file \.npy: name a folder, or a file with this ending"),
        (a, "res.csv", "numpy", r"or a file with this ending, or give fmt='pandas'$"),
        (a, "res.txt", "numpy", r"a file \.npy: name a folder, or a file with this ending$"),
        (a, "res.npy", "Table", r"a file \.ecsv"),
    ):
        with pytest.raises(BadParameter, match=match):
            spec.getSpec(ids, fmt, tmp_path / out)
    assert not list(tmp_path.iterdir())
    for out, fmt in (("a.NPY", "numpy"), ("a.fits", "Spectrum1D"), ("b.fits.gz", "FITS")):
        assert spec.getSpec(a, fmt, tmp_path / out) == "OK"


def test_names_that_are_no_fields_are_told_what_there_is(spec: SpecClient, pair) -> None:
    a, b = pair
    with pytest.raises(UnknownField, match=r"'wavelength'.*did you mean loglam"):
        spec.getSpec(a, values="flux,wavelength")
    with pytest.raises(UnknownField, match=r"'flx'.*did you mean flux"):
        spec.getSpec(a, values="flx")
    assert spec.getSpec(a, values="Flux").dtype.names == ("flux",)
    with pytest.raises(UnknownField, match="a field is the name of a column"):
        spec.query(fields="count(*)", context=A)
    for spectra in (spec.getSpec([(A, a), (B, b)]), spec.getSpec([a, a])):
        with pytest.raises(UnknownField, match="'nosuch'; known here: flux, "):
            spectra["nosuch"]


def test_a_limit_is_named_where_the_condition_has_one(spec: SpecClient) -> None:
    with pytest.raises(BadConstraint, match=r"limit 5 limit 3.*; limit=3 was put at its end"):
        spec.query(constraint="z > 0 limit 5", limit=3, context=A)
    with pytest.raises(BadConstraint, match="limit 5 limit 5") as failed:
        spec.query(constraint="z > 0 limit 5 limit 5", context=A)
    assert "limit=" not in str(failed.value)
    with pytest.raises(BadRegion, match="SkyCoord reads hours"):
        spec.query("5h51m", "83d", 1)
    with pytest.raises(BadParameter, match="No such file"):
        spec.prospect(1, inspection="nosuch.csv", show=False)


def curves() -> dict[str, Any]:
    return {
        line.get_label(): line
        for line in plt.gcf().axes[0].get_lines()
        if not line.get_label().startswith("_")
    }


def test_one_object_of_two_surveys_is_overplotted(spec: SpecClient, pair) -> None:
    a, b = pair
    spec.plot([(A, a), (B, b)])
    names = list(curves())
    assert len(names) == 2
    by_context = {name.split()[0]: curves()[name] for name in names}
    z = spec.query(constraint=f"specobjid = {a}", fields="z")[0]
    theirs = spec.getSpec((B, b))
    z_b = spec.query(constraint=f"targetid = {b}", fields="z", context=B)[0]
    assert np.allclose(by_context[B].get_xdata(), theirs["wavelength"] / (1 + z_b))
    assert "rest-frame" in plt.gcf().axes[0].get_xlabel()
    legend = [text.get_text() for text in plt.gcf().axes[0].get_legend().get_texts()]
    assert legend[0].startswith(f"{A}  ")
    assert f"specobjid={a}" in legend[0]
    assert f"z = {z:.4f}" in legend[0]
    assert legend[1].startswith(f"{B}  {b}")
    assert len(plt.gcf().axes) == 1


@pytest.mark.proof
def test_every_kind_of_spectrum_is_overplotted(spec: SpecClient, pair, tmp_path: Path) -> None:
    a, b = pair
    held = [spec.getSpec((A, a), fmt=fmt) for fmt in ("numpy", "pandas", "Table", "Spectrum1D")]
    spec.plot([*held, f"{B}:{b}"], rest_frame=False, values="flux,noise", title="five")
    legend = plt.gcf().axes[0].get_legend().get_texts()
    assert len(legend) == 5
    assert all(str(a) in text.get_text() for text in legend[:4])
    assert plt.gcf().axes[0].get_title(loc="right") == "five"
    plt.close("all")
    spec.plot([(A, a), ("default", a), (B, b)], rest_frame=False, scale=[1, 2, 1], offset=10)
    lines = [line for line in plt.gcf().axes[0].get_lines() if len(line.get_xdata()) > 3000]
    high, low = (line.get_ydata() for line in lines[1:])
    good = np.isfinite(low)
    assert np.allclose(high[good], 2 * low[good] + 10)
    plt.close("all")
    spec.plot([(A, a), (B, b)], scale="median", z=[0.1, 0.2], dark=True)
    assert plt.gcf().axes[0].get_ylabel() == "flux density / median"
    spec.plot([(A, a), (B, b)], out=tmp_path / "two.pdf", ylim=(0, 9), xlim=(4000, 5000))
    assert (tmp_path / "two.pdf").read_bytes().startswith(b"%PDF")


def test_overplots_that_cannot_be_are_refused(spec: SpecClient, pair) -> None:
    a, b = pair
    two = [(A, a), (B, b)]
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        ([(A, a)] * 9, {}, "up to 8"),
        (two, {"sky": True}, "flux and noise"),
        (two, {"model": True}, "flux and noise"),
        (two, {"values": "flux,ivar"}, "flux and noise"),
        (two, {"scale": "brightest"}, "or 'median'"),
        (two, {"scale": [1, 0]}, "other than 0"),
        (two, {"offset": [1, 2, 3]}, "one for each of 2"),
        (two, {"z": [1, 2, 3]}, "one for each of 2"),
    ]
    for given_, keywords, match in wrong:
        with pytest.raises(BadParameter, match=match):
            spec.plot(given_, **keywords)


def test_fluxes_of_other_units_are_compared_or_refused() -> None:
    ones = np.ones(5)
    first = DisplaySpectrum(ones, 2 * ones, ones, flux_unit="1e-17 erg / (s cm2 Angstrom)")
    same = DisplaySpectrum(ones, ones, ones, flux_unit="1e-17 erg / (Angstrom s cm2)")
    other = DisplaySpectrum(ones, 3e-17 * ones, 1e34 * ones, flux_unit="erg / (s cm2 Angstrom)")
    none = DisplaySpectrum(ones, ones, ones, flux_unit="")
    assert spread_out([first, same], None, 0) == [first, same]
    _, scaled = spread_out([first, other], None, 0)
    assert np.allclose(scaled.flux, 3)
    assert np.allclose(scaled.ivar, 1)
    with pytest.raises(BadParameter, match=r"no unit.*scale='median'"):
        spread_out([first, none], None, 0)
    assert [float(one.flux[0]) for one in spread_out([first, none], "median", 1)] == [1.0, 2.0]


def test_pages_hold_spectra_of_two_surveys(spec: SpecClient, pair, tmp_path: Path) -> None:
    a, b = pair
    ids = [(A, a), (B, b)]
    page = spec.prospect(ids, show=False)
    # The facts of each survey come under its own labels.
    for text in (str(a), str(b), A, B, "ZWARNING", "ZWARN&lt;", "subclass"):
        assert text in page.html
    over = spec.prospect([*ids, f"{B}:{b}"], show=False, overplot=True)
    assert f"{B}  {b}" in over.html
    assert spec.prospect(ids, out=tmp_path / "page.html", overplot=True) == "OK"
    with pytest.raises(BadParameter, match="up to 8"):
        spec.prospect(ids * 5, overplot=True, show=False)


# --- The command line ---------------------------------------------------------------------------


@pytest.mark.proof
def test_the_command_line_across_surveys(two_surveys: TwoSurveys, pair, tmp_path: Path) -> None:
    def run(*words: str, given: str = "") -> str:
        done = run_forked([*words, "--url", two_surveys.served.url], os.environ, given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    a, b = pair
    limit = ("--where", "z > 0.02 order by z limit 2")
    lines = run("query", *limit, "--context", f"{A},{B}")
    assert [line.partition(":")[0] for line in lines.splitlines()] == [A, A, B, B]
    tuples = run("query", *limit, "--context", f"{A},{B}", "--fields", "tuple")
    assert tuples.splitlines()[3].startswith(f"{B}:(")
    table = run("query", *limit, "--context", f"{A},{B}", "--fields", "z")
    assert table.splitlines()[0] == "context,id,z"
    shown = run("get", f"{B}:{b}", str(a), f"{A}:{a}")
    assert [shown.count(str(b)), shown.count(str(a))] == [1, 2]
    assert "context" in shown
    for text in (lines, tuples, table):
        folder = tmp_path / str(hash(text))
        run("get", "--ids", "-", "--out", str(folder), given=text)
        assert len(list(folder.iterdir())) == 4
    run("stack", *limit, "--context", f"{A},{B}", "--out", str(tmp_path / "made.ecsv"))
    assert Table.read(tmp_path / "made.ecsv")["count"].max() > 1
