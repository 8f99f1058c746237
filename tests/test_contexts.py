"""Releases: the newest falls back to older ones; an older one answers for itself alone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from serving import serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import NotFound, UnknownCatalog, UnknownContext
from specserver.ingest import run_ingest
from specserver.model.ids import pack_specobjid, unpack_specobjid

HELD = {"sdss_dr8": "26", "sdss_dr12": "v5_7_0", "sdss_dr16": "v5_13_0", "sdss_dr17": "v5_13_2"}
"""Release and the reduction of the mock survey that is ingested into it."""
REDUCTIONS = {
    "sdss_dr8": [],
    "sdss_dr9": ["v5_4_45"],
    "sdss_dr10": ["v5_5_12"],
    "sdss_dr11": ["v5_6_5"],
    "sdss_dr12": ["v5_7_0", "v5_7_2"],
    "sdss_dr13": ["v5_9_0"],
    "sdss_dr14": ["v5_10_0"],
    "sdss_dr15": ["v5_10_0"],
    "sdss_dr16": ["v5_13_0"],
    "sdss_dr17": ["v5_13_2"],
}
"""What INTERFACE.md §3 says of each release besides 26, 103 and 104."""


def reduced_anew(path: Path, folder: Path) -> Path:
    """Copy a file of v5_7_0 as of v5_9_0, its flux doubled, so that one can tell."""
    copy = folder / path.name
    shutil.copy(path, copy)
    with fits.open(copy, mode="update") as hdus:
        row = hdus[2].data
        row["RUN2D"] = "v5_9_0"
        parts = (int(row[name][0]) for name in ("PLATE", "MJD", "FIBERID"))
        row["SPECOBJID"] = np.int64(pack_specobjid(*parts, "v5_9_0"))
        hdus[1].data["flux"] *= 2
    return copy


@pytest.fixture(scope="module")
def twice(mock_survey: Path) -> Path:
    """A file whose spectrum is in two releases."""
    return min((mock_survey / "v5_7_0" / "spectra" / "lite").rglob("*.fits"))


@pytest.fixture(scope="module")
def releases(
    mock_survey: Path, twice: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SpecClient]:
    """A client of a service with five releases."""
    data = tmp_path_factory.mktemp("releases")
    for context, reduction in HELD.items():
        run_ingest(open_root(data), context, [mock_survey / reduction], workers=1, strict=True)
    again = tmp_path_factory.mktemp("again")
    run_ingest(open_root(data), "sdss_dr13", [reduced_anew(twice, again)], workers=1, strict=True)
    with serve(data, mock_survey) as running:
        yield SpecClient(svc_url=running.url)


@pytest.fixture(scope="module")
def ids(releases: SpecClient) -> dict[str, np.ndarray]:
    """All identifiers of each release."""
    contexts = [*HELD, "sdss_dr13"]
    every = {one: releases.query(constraint="plate > 0", context=one, primary=False)
             for one in contexts}  # fmt: skip
    assert all(len(found) for found in every.values())
    return every


def test_every_release_tells_what_it_is(releases: SpecClient) -> None:
    told = releases.list_contexts(fmt="json")
    assert list(told) == ["default", "sdss_dr17", "sdss_dr16", "sdss_dr13", "sdss_dr12", "sdss_dr8"]
    for name, one in told.items():
        resolved = "sdss_dr17" if name == "default" else name
        assert one["resolved"] == resolved
        assert one["description"].startswith(
            "SDSS Data Release " + resolved.removeprefix("sdss_dr")
        )
        assert one["catalog"] == f"{resolved}.specobj"
        assert list(one["catalogs"]) == [f"{resolved}.specobj", f"{resolved}.specobjall"]
        assert one["type"] == "public"
        assert one["id_main"] == "specobjid"
        assert one["id_parts"] == ["plate", "mjd", "fiberid", "run2d"]
        # What only programs read is not shown.
        assert {key for key in one if key.startswith("id_")} == {"id_main", "id_parts"}
        assert one["redshift"] == "z"
        assert "vacuum" in one["frame"]
        assert one["lattice"]["step"] == 1e-4
        assert one["reductions"] == ["26", "103", "104", *REDUCTIONS[resolved]]
        assert one == {**releases.list_contexts(name, fmt="json")}


@pytest.mark.proof
def test_all_ten_releases_can_be_made_and_no_other(mock_survey: Path, tmp_path: Path) -> None:
    folder = min(mock_survey.joinpath("26", "spectra").glob("0*"))
    for context in REDUCTIONS:
        run_ingest(open_root(tmp_path), context, [folder], workers=1, strict=True)
    with serve(tmp_path, folder) as running:
        spec = SpecClient(svc_url=running.url)
        assert list(spec.list_contexts(fmt="json")) == ["default", *reversed(REDUCTIONS)]
        number = running.ids[0]
        for context in REDUCTIONS:
            assert len(spec.getSpec(number, context=context))
        with pytest.raises(UnknownContext, match=r"sdss_dr7.*sdss_dr17"):
            spec.set_context("sdss_dr7")
    with pytest.raises(UnknownContext, match="sdss_dr8"):
        run_ingest(open_root(tmp_path), "sdss_dr7", [folder])


@pytest.mark.parametrize("context", ["default", "sdss_dr17"])
def test_the_newest_release_falls_back_to_older_ones(
    releases: SpecClient, ids: dict[str, np.ndarray], context: str
) -> None:
    every = np.concatenate(list(ids.values()))
    spectra = releases.getSpec(every, context=context)
    assert len(spectra) == len(every)
    for release, own in ids.items():
        at = int(np.flatnonzero(every == own[0])[0])
        (same,) = releases.getSpec([own[0]], context=release)
        assert spectra[at].tobytes() == same.tobytes()


@pytest.mark.parametrize("context", ["sdss_dr8", "sdss_dr12", "sdss_dr13", "sdss_dr16"])
def test_an_older_context_restricts_to_its_own_spectra(
    releases: SpecClient, ids: dict[str, np.ndarray], context: str
) -> None:
    own = {tuple(one) for one in unpack_specobjid(ids[context]).tolist()}
    assert len(releases.getSpec(ids[context], context=context)) == len(own)
    for release, others in ids.items():
        if release == context:
            continue
        number = int(others[0])
        parts = unpack_specobjid(number).tolist()
        for given in (number, parts):
            with pytest.raises(NotFound) as raised:
                releases.getSpec(given, context=context)
            searched, _, advice = raised.value.message.partition("; ")
            assert context in searched
            assert release not in searched
            # Only of a number is told which other releases have it.
            assert (f"{release} has {number}" in advice) == (given == number)
        with pytest.warns(UserWarning, match="not found|no spectr|missing|left out"):
            assert releases.getSpec([number], context=context, missing="skip") == []


def test_an_older_context_queried_DR16(  # the predecessor's fault, by its name
    releases: SpecClient, ids: dict[str, np.ndarray]
) -> None:
    table = releases.query(
        constraint="plate > 0", fields="specobjid,run2d,ra,dec", context="sdss_dr12", primary=False
    )
    assert set(table["run2d"]) == {"v5_7_0"}
    one = table[0]
    assert one["specobjid"] in releases.query(
        float(one["ra"]), float(one["dec"]), 0.001, context="sdss_dr12", primary=False
    )
    for context in ("sdss_dr16", "sdss_dr17", "sdss_dr8", "default"):
        found = releases.query(
            float(one["ra"]), float(one["dec"]), 0.001, context=context, primary=False
        )
        assert one["specobjid"] not in found
    # … also through a client that is set to the older release, and by the catalogue's name.
    assert set(releases.query(constraint="plate > 0", catalog="sdss_dr12.specobjall")) == set(
        ids["sdss_dr12"]
    )
    with pytest.raises(UnknownCatalog, match=r"sdss_dr12\.specobj"):
        releases.query(constraint="plate > 0", catalog="sdss_dr12.nothing")
    with pytest.raises(UnknownContext, match="sdss_dr14"):
        releases.query(constraint="plate > 0", catalog="sdss_dr14.specobj")


def test_a_tuple_without_run2d_is_of_the_release_that_is_named(
    releases: SpecClient, ids: dict[str, np.ndarray], twice: Path
) -> None:
    plate, mjd, fiber = (int(part) for part in twice.name[5:-5].split("-"))
    older = releases.getSpec((plate, mjd, fiber), context="sdss_dr12")
    newer = releases.getSpec((plate, mjd, fiber), context="sdss_dr13")
    assert newer["flux"].tobytes() == (older["flux"] * 2).tobytes()
    assert older["flux"].any()
    # From the newest release on down, the first that has the spectrum answers.
    assert releases.getSpec((plate, mjd, fiber)).tobytes() == newer.tobytes()
    assert releases.getSpec((plate, mjd, fiber, "v5_7_0")).tobytes() == older.tobytes()
    with pytest.raises(NotFound, match="sdss_dr13"):
        releases.getSpec((plate, mjd, fiber, "v5_7_0"), context="sdss_dr13")
    with pytest.raises(NotFound, match="sdss_dr16"):
        releases.getSpec((plate, mjd, fiber), context="sdss_dr16")
    # A wildcard, too, is answered by one release: all spectra are of the same reduction.
    assert len(releases.getSpec((plate, mjd), context="sdss_dr13")) == 1
    assert len(releases.getSpec((plate, mjd), context="sdss_dr12")) > 1


def test_a_client_set_to_an_older_release_stays_there(
    releases: SpecClient, ids: dict[str, np.ndarray]
) -> None:
    spec = SpecClient(svc_url=releases.get_svc_url())
    spec.set_context("sdss_dr12")
    assert set(spec.query(constraint="plate > 0", primary=False)) == set(ids["sdss_dr12"])
    with pytest.raises(NotFound, match="sdss_dr12"):
        spec.getSpec(int(ids["sdss_dr17"][0]))
    assert len(spec.getSpec(int(ids["sdss_dr17"][0]), context="sdss_dr17"))
