"""Composites that Dask computes: those of the service, whatever the parts and the scheduler."""

import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from dask.distributed import Client, LocalCluster
from hypothesis import given
from hypothesis import strategies as st

import specserver
from specserver.data.context import SegmentFolder
from specserver.data.root import open_root
from specserver.errors import BadArguments, BadParameter, NotFound, SpecServerWarning
from specserver.ingest import run_ingest
from specserver.lazy import DataFolder
from specserver.lazy.composites import joined
from specserver.lazy.datasets import lazy_rows
from specserver.model.grid import PixelRange
from specserver.ops.composite import StackRequest, Sums
from specserver.ops.rebin import Rebinned
from specserver.service import SpectroscopicService
from specserver.service.composite import Composite, StackLimits
from specserver.service.composite.parts import StackPart, divide
from specserver.store.lazy_vector import LazyVector
from test_lazy import same

COLUMNS = ("flux", "error", "error_bootstrap", "count")
WAYS: list[dict[str, Any]] = [
    {},
    {"method": "ivar"},
    {"norm": (5100.0, 5200.0)},
    {"frame": "observed", "wave": (4000.0, 5000.0)},
    {"step": 2e-4, "z": 0.25},
]


@pytest.fixture(scope="module")
def many(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of four segments."""
    data = tmp_path_factory.mktemp("many") / "data"
    files = sorted(mock_survey.rglob("spec-*.fits*"))
    for at in range(4):
        run_ingest(open_root(data), "sdss_dr17", files[at::4], workers=1)
    return data


@pytest.fixture(scope="module")
def folder(many: Path) -> DataFolder:
    return specserver.open(many)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Some simulated fibres saw nothing, and are named in a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpecServerWarning)
        yield


def served(data: Path, ids: list[int], **how: Any) -> Composite:
    """Return the composite that the service makes."""
    service = SpectroscopicService(open_root(data))
    z = how.pop("z", None)
    asked = StackRequest(**how, z=None if z is None else np.atleast_1d(z).tolist())
    stacking = service.composite(service.resolve(ids, "default"), asked, StackLimits(2**18, 0))
    assert list(stacking)
    return stacking.result


def ids_of(folder: DataFolder, **chosen: Any) -> list[int]:
    found: list[int] = (
        folder.to_xarray(vectors=["flux"], columns=[], **chosen).specobjid.to_numpy().tolist()
    )
    return found


def require_equal(made: xr.Dataset, expected: Composite, rtol: float = 0.0) -> None:
    assert same(made.wavelength, expected.wave)
    assert made.attrs["nspec"] == expected.nspec
    assert made.flux.attrs["units"] == expected.unit
    for name in COLUMNS:
        values = getattr(expected.stacked, name)
        if rtol:
            np.testing.assert_allclose(made[name], values, rtol=rtol)
        else:
            assert same(made[name], values), name
    skipped = {
        reason: sorted(made.skipped_id.to_numpy()[made.skipped_reason == reason].astype(str))
        for reason in np.unique(made.skipped_reason).tolist()
    }
    assert skipped == {reason: sorted(ids) for reason, (_, ids) in expected.skipped.items()}


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_one_part_gives_every_bit_of_the_service(
    folder: DataFolder, many: Path, how: dict[str, Any]
) -> None:
    require_equal(folder.stack(**how), served(many, ids_of(folder), **how))


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_parts_give_the_same_but_for_rounding(
    folder: DataFolder, many: Path, how: dict[str, Any]
) -> None:
    """Sums of float64 in another order: a part in 1e12 of what they are made of."""
    made = folder.stack(**how, chunk=40)
    require_equal(made, served(many, ids_of(folder), **how), rtol=1e-11)


def test_some_of_the_spectra(folder: DataFolder, many: Path) -> None:
    quasars = {"constraint": "class = 'QSO'"}
    require_equal(folder.stack(**quasars), served(many, ids_of(folder, **quasars)))
    ids = ids_of(folder)[5:40:3]
    require_equal(folder.stack("sdss_dr17", ids[::-1]), served(many, ids))
    z = np.linspace(0.1, 0.4, len(ids))
    made = folder.stack(ids=np.array(ids, np.uint64), z=z, method="ivar")
    require_equal(made, served(many, ids, z=z, method="ivar"))


def test_spectra_off_the_lattice_and_of_parts_of_it(tmp_path: Path, mock_survey: Path) -> None:
    from astropy.io import fits

    files = sorted(mock_survey.rglob("spec-*.fits"))[:6]
    for number, path in enumerate(files):
        with fits.open(path, memmap=False) as units:
            if number % 2:
                units[1].data["loglam"] += np.float32(3.3e-5)
            units.writeto(tmp_path / path.name)
    data = tmp_path / "data"
    run_ingest(open_root(data), "sdss_dr17", [tmp_path], workers=1)
    folder = specserver.open(data)
    ids = ids_of(folder) + ids_of(folder, off_lattice=True)
    assert len(ids) == 6
    require_equal(folder.stack(chunk=1), served(data, ids), rtol=1e-11)


def test_those_without_redshift_are_named(folder: DataFolder, many: Path) -> None:
    ids = ids_of(folder)[:6]
    z = [0.1, np.nan, 0.2, -2.0, 0.1, 0.3]
    with pytest.warns(SpecServerWarning, match="2 with no redshift"):
        made = folder.stack(ids=ids, z=z)
    require_equal(made, served(many, ids, z=z))
    assert set(made.skipped_id.to_numpy()) >= {ids[1], ids[3]}


def test_what_it_says(folder: DataFolder) -> None:
    made = folder.stack(wave=(4000, 5000))
    assert made.flux.attrs["units"] == "1e-17 erg / (s cm2 Angstrom)"
    assert made.wavelength.attrs == {
        "units": "Angstrom",
        "medium": "vacuum",
        "long_name": "wavelength, rest frame",
    }
    about = {"context": "sdss_dr17", "frame": "rest", "method": "mean", "weighted": 1}
    assert about.items() < made.attrs.items()
    assert folder.stack(norm=(5100, 5200)).flux.attrs["units"] == ""
    assert list(made.dims) == ["wavelength", "skipped"]


def test_errors_say_what_is_possible(folder: DataFolder) -> None:
    with pytest.raises(BadParameter, match="the service's stack has medians"):
        folder.stack(method="median")  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="no spectrum for 12345 in sdss_dr17"):
        folder.stack(ids=[ids_of(folder)[0], 12345])
    with pytest.raises(BadArguments, match="give ids, or conditions"):
        folder.stack(ids=[1], constraint="z > 1")
    with pytest.raises(BadParameter, match="whole numbers"):
        folder.stack(ids=["a"])
    with pytest.raises(NotFound, match=r"z > 1000.* in sdss_dr17; none meets"):
        folder.stack(constraint="z > 1000")
    with pytest.raises(BadParameter, match="with ids also one for each"):
        folder.stack(z=[0.1, 0.2])
    with pytest.raises(BadParameter, match="redshifts up to"):
        folder.stack(z=1e6)
    with pytest.raises(BadParameter, match="z= gives redshifts"):
        folder.stack(z=np.nan)
    with pytest.raises(BadParameter, match="together they reach from"):
        folder.stack(frame="observed", wave=(20_000, 21_000))
    with pytest.raises(BadParameter, match="chunk"):
        folder.stack(chunk=0)


# --- sums --------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32 - 1),
    lefts=st.lists(st.integers(-5, 30), min_size=1, max_size=8),
    weighted=st.booleans(),
)
def test_sums_that_are_merged_are_those_of_all(seed: int, lefts: list[int], weighted: bool) -> None:
    """Each reaches pixels of its own, some of them none of the others'."""
    rng = np.random.default_rng(seed)
    batches = []
    for left in lefts:
        used = rng.random((3, 7)) < 0.8
        flux = np.where(used, rng.normal(5, 2, used.shape), 0)
        batches.append(Rebinned(flux, np.where(used, rng.random(used.shape) + 0.1, 0), used, left))
    whole, merged = Sums(-5, 42, weighted=weighted), Sums(0, 0, weighted=weighted)
    for batch in batches:
        part = Sums(batch.left, 7, weighted=weighted)
        for sums in (part, whole):
            copied = (batch.flux.copy(), batch.var.copy(), batch.used.copy())
            sums.add(Rebinned(*copied, batch.left))
        merged.merge(part)
    merged.merge(Sums(3, 0, weighted=weighted))
    assert merged.first == min(lefts)
    here = slice(merged.first + 5, merged.first + 5 + len(merged.count))
    for name in COLUMNS:
        found, expected = getattr(merged.result(), name), getattr(whole.result(), name)
        np.testing.assert_allclose(found, expected[here], rtol=1e-9, atol=1e-12)
    assert merged.count.sum() == whole.count.sum()


# --- on a cluster ------------------------------------------------------------------------------


@pytest.mark.proof
def test_processes_of_a_cluster_read_for_themselves(folder: DataFolder, many: Path) -> None:
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        ) as cluster,
        Client(cluster),
    ):
        elsewhere = folder.stack(method="ivar", chunk=40)
    with dask.config.set(scheduler="synchronous"):
        here = folder.stack(method="ivar", chunk=40)
    for name in COLUMNS:
        assert same(elsewhere[name], here[name])


NSPEC, NSEGMENT = 1_000_000, 500


def segments_of_a_million(many: Path) -> tuple[SegmentFolder, ...]:
    context = open_root(many).context("sdss_dr17")
    return tuple(context.segment(f"seg-{at:06d}-0a1b2c3d-{at:08x}") for at in range(NSEGMENT))


def test_what_is_sent_to_stack_a_million_spectra(many: Path) -> None:
    """A row and a redshift each, 12 bytes, and some hundred tasks."""
    rng = np.random.default_rng(1)
    whole = StackPart(
        data=open_root(many),
        context="sdss_dr17",
        medium="vacuum",
        asked=StackRequest(),
        begin=0,
        folders=segments_of_a_million(many),
        counts=(NSPEC // NSEGMENT,) * NSEGMENT,
        rows=np.tile(np.arange(NSPEC // NSEGMENT, dtype=np.int32), NSEGMENT),
        z=rng.random(NSPEC),
    )
    parts = list(divide(whole, 10_000))
    assert sum(len(part.rows) for part in parts) == NSPEC
    assert {sum(part.counts) for part in parts} == {10_000}
    assert max(len(pickle.dumps(part)) for part in parts) < 125_000
    tasks = dict(joined(parts).__dask_graph__())
    assert len(tasks) == 100 + 7 + 1


def test_what_is_sent_to_read_a_million_spectra(many: Path) -> None:
    """A handle of each segment once, and a task for a thousand spectra: no values, no open file."""
    stored = LazyVector(
        folders=segments_of_a_million(many),
        starts=np.arange(0, NSPEC + 1, NSPEC // NSEGMENT),
        rows=None,
        vector="flux",
        dtype=np.dtype("f4"),
        window=PixelRange(35_000, 39_600),
    )
    flux = lazy_rows(stored, (1000,) * 1000)
    graph = flux.__dask_graph__()
    assert len(dict(graph)) <= 1001
    assert len(pickle.dumps(stored)) < 70_000
    assert len(pickle.dumps(dict(graph))) < 400_000
