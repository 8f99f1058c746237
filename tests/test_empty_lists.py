"""Lists without identifiers: empty objects of the form, or an error that says what to give."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy.table import Table
from matplotlib import pyplot as plt
from specutils import Spectrum, SpectrumCollection, SpectrumList

from commands import command
from conftest import CONTEXTS, TwoSurveys
from specserver.client.api import SpecClient
from specserver.errors import BadParameter, UnknownContext, UnknownField

FORMATS = ("numpy", "pandas", "Table", "Spectrum1D", "FITS")


@pytest.fixture(scope="module")
def spec(two_surveys: TwoSurveys) -> SpecClient:
    return SpecClient(svc_url=two_surveys.served.url)


@pytest.mark.parametrize("context", CONTEXTS)
def test_aligned_it_is_an_empty_array_of_the_record(spec: SpecClient, context: str) -> None:
    some = spec.query(constraint="limit 1", context=context)
    for asked in (
        {"align": True},
        {"align": "resample"},
        {"cutout": "6500-7200"},
        {"cutout": (6500, 7200), "values": "ivar,flux"},
        {"align": True, "values": ["flux"]},
        {"align": True, "medium": "vacuum"},
    ):
        made = spec.getSpec([], context=context, **asked)
        assert isinstance(made, np.ndarray)
        assert made.shape == (0, 0)
        assert made.dtype == spec.getSpec(some, context=context, **asked).dtype
        assert made["flux"].shape == (0, 0)
        assert made.about.context == context
        assert made.about.flux_unit
    with pytest.raises(UnknownField, match="nonsense"):
        spec.getSpec([], context=context, align=True, values="nonsense")
    with pytest.raises(UnknownContext):
        spec.getSpec([], context="nonesuch", align=True)


def test_each_format_has_an_empty_one(spec: SpecClient, tmp_path: Path) -> None:
    for fmt in FORMATS:
        made = spec.getSpec([], fmt)
        assert isinstance(made, list)
        assert len(made) == 0
    assert spec.getSpec([], "pandas", align=True) == spec.getSpec([], "Table", align=True) == []
    for align in (False, True, "resample"):
        listed = spec.getSpec([], "SpectrumList", align=align)
        assert isinstance(listed, SpectrumList)
        assert len(listed) == 0
        collected = spec.getSpec([], "SpectrumCollection", align=align)
        assert isinstance(collected, SpectrumCollection)
        assert (len(collected.flux), collected.meta) == (0, [])
    whole = spec.getSpec([], "Spectrum1D", align=True)
    assert isinstance(whole, Spectrum)
    assert whole.flux.shape == (0, 0)
    for fmt in (*FORMATS, "SpectrumList", "SpectrumCollection"):
        assert spec.getSpec([], fmt, tmp_path / "none") == "OK"
    assert not (tmp_path / "none").exists()
    assert isinstance(
        SpecClient(svc_url="http://127.0.0.1:9/spec").getSpec([], "SpectrumList"), SpectrumList
    )


def empties(folder: Path) -> dict[str, Any]:
    """Return what holds no identifier, of every kind, by name."""
    column = {"specobjid": np.empty(0, np.uint64)}
    (folder / "empty.txt").write_text("")
    (folder / "comment.txt").write_text("# nothing\n\n")
    (folder / "header.csv").write_text("specobjid\n")
    Table(column).write(folder / "table.fits")
    Table(column).write(folder / "table.parquet")
    return {
        "tuple": (),
        "floats": np.array([]),
        "ids": np.empty(0, np.uint64),
        "records": np.empty(0, [("plate", int), ("mjd", int), ("fiberid", int)]),
        "rows": np.empty((0, 3), int),
        "table": Table(column),
        "no columns": Table(),
        "contexts": Table({"context": [], "id": []}),
        "frame": pd.DataFrame(column),
        "no frame": pd.DataFrame(),
        "series": pd.Series([], dtype="UInt64"),
        "arrow": pa.table(column),
        "iterator": iter(()),
        "text": "[]",
        **{path.name: path for path in sorted(folder.iterdir())},
    }


def test_all_that_holds_none_is_an_empty_list(spec: SpecClient, tmp_path: Path) -> None:
    for name, given in empties(tmp_path).items():
        assert spec.getSpec(given) == [], name
        assert spec.getSpec(given, align=True).shape == (0, 0), name


@pytest.mark.filterwarnings("ignore:.*not found and are left out")
@pytest.mark.filterwarnings("ignore:.*have no identifier")
def test_what_skipping_leaves_empty_is_the_same(spec: SpecClient) -> None:
    record = spec.getSpec([], align=True).dtype
    for gone in (
        [5, 6],
        [None],
        np.ma.masked_array([1], [True]),
        pd.Series([None], dtype="UInt64"),
    ):
        assert spec.getSpec(gone, missing="skip") == []
        for fmt in FORMATS:
            assert spec.getSpec(gone, fmt, missing="skip") == []
        made = spec.getSpec(gone, align=True, missing="skip")
        assert (made.shape, made.dtype) == ((0, 0), record)
        assert spec.getSpec(gone, align="resample", missing="skip").shape == (0, 0)
        listed = spec.getSpec(gone, "SpectrumList", missing="skip")
        assert isinstance(listed, SpectrumList)
        assert len(listed) == 0
        assert len(spec.getSpec(gone, "SpectrumCollection", missing="skip").flux) == 0
    pairs = [(context, 5) for context in CONTEXTS]
    assert spec.getSpec(pairs, missing="skip") == []
    assert isinstance(spec.getSpec(pairs, "SpectrumList", missing="skip"), SpectrumList)
    for align in (True, "resample"):
        assert spec.getSpec(pairs, align=align, missing="skip").shape == (0, 0)


def test_what_needs_a_spectrum_says_what_to_give(spec: SpecClient, tmp_path: Path) -> None:
    plt.switch_backend("agg")
    calls = {
        "preview": (),
        "plotGrid": (2, 2),
        "getGridPlot": (2, 2),
        "stackedImage": (),
        "stack": (),
        "plot": (),
        "prospect": (),
    }
    for name, more in calls.items():
        (tmp_path / name).mkdir()
        for what, given in {"list": [], **empties(tmp_path / name)}.items():
            with pytest.raises(BadParameter, match="identifiers in any form"):
                raise AssertionError((name, what, getattr(spec, name)(given, *more)))
    with pytest.raises(BadParameter, match="one spectrum or more"):
        spec.stackedImage([], "numpy")
    with (
        pytest.warns(UserWarning, match="not found"),
        pytest.raises(BadParameter, match="one spectrum or more"),
    ):
        spec.prospect([5], missing="skip")
    assert len(spec.match([], radius=1.0)) == 0


def test_the_command_says_that_a_file_names_none(two_surveys: TwoSurveys, tmp_path: Path) -> None:
    url = two_surveys.served.url
    empties(tmp_path)
    for file in sorted(tmp_path.iterdir()):
        for more in ((), ("--out", tmp_path / "made")):
            told = command("get", "--ids", file, "--url", url, *more, code=2)
            assert "one identifier or more" in " ".join(told.split())
    assert not (tmp_path / "made").exists()
    told = command(
        "stack", "--ids", tmp_path / "empty.txt", "--url", url, "--out", tmp_path / "a.png", code=2
    )
    assert "one identifier or more" in " ".join(told.split())
