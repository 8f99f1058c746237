"""The predecessor's client, unchanged, against our server.

It runs in an environment and a process of its own: session.py asks, and here the answers are
compared with the FITS files and with brute force.
"""

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import ascii as ascii_io
from astropy.io import fits
from astropy.table import Table
from numpy.lib.recfunctions import repack_fields
from PIL import Image

from specserver.model.ids import unpack_specobjid

# Making the environment takes minutes where no package is in the cache.
pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("old_client")]

ROOT = Path(__file__).parents[2]
CUTOUT_AA = (5500.0, 6000.0)
NIDS = 5


@dataclass(frozen=True)
class Session:
    """What the old client was asked, what it answered, and what is true."""

    plan: dict
    answers: dict
    folder: Path
    catalogue: Table
    coadds: list[np.ndarray]

    def load(self, name):
        return np.load(self.folder / name)

    def load_list(self, name):
        with np.load(self.folder / name) as arrays:
            return [arrays[f"arr_{number}"] for number in range(len(arrays.files))]


@pytest.fixture(scope="module")
def old_python():
    """The interpreter of the old client's environment; skips where it cannot be made."""
    script = [sys.executable, str(ROOT / "scripts" / "old-client-env")]
    made = subprocess.run(script, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"the old client's environment cannot be made: {made.stderr.strip()[-300:]}")
    return made.stdout.strip()


@pytest.fixture(scope="module")
def session(served, old_python, tmp_path_factory):
    """Answers of one session with the old client."""
    out = tmp_path_factory.mktemp("oldclient")
    catalogue = read_catalogue(served.url)
    chosen = choose_ids(served)
    plan = make_plan(catalogue, chosen)
    (out / "plan.json").write_text(json.dumps(plan))
    command = [old_python, str(Path(__file__).with_name("session.py")), served.url]
    command += [str(out / "plan.json"), str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=old_environment(out), cwd=out
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads((out / "answers.json").read_text())
    return Session(plan, answers, out, catalogue, [read_coadd(path) for path in chosen.values()])


def old_environment(home):
    """Return variables that keep the old client from this environment, and from any proxy."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and not name.lower().endswith("_proxy")
    }
    # It looks up who is logged in, first in this file and then at the terminal, if there is one.
    (home / ".datalab").mkdir()
    (home / ".datalab" / "dl.conf").write_text("[login]\nstatus = loggedout\nuser =\n")
    return kept | {"HOME": str(home), "MPLBACKEND": "Agg", "NO_PROXY": "*"}


def read_catalogue(url):
    """Return the primary catalogue, identifiers as text, as one CSV answer gives it."""
    wanted = {"fields": "specobjid,ra,dec,z,class", "context": "default"}
    with urllib.request.urlopen(f"{url}/query?{urlencode(wanted)}") as answer:
        text = answer.read().decode()
    return ascii_io.read(text, format="csv", converters={"specobjid": str, "class": str})


def find_file(folder, number):
    """Return the file of a spectrum, found by its name and the identifier within."""
    parts = unpack_specobjid(number)
    name = f"spec-{parts.plate:04d}-{parts.mjd}-{parts.fiber:04d}.fits*"
    for path in sorted(folder.rglob(name)):
        stored = str(fits.getdata(path, 2)["SPECOBJID"][0]).strip()
        if int(stored) % 2**64 == number:
            return path
    raise AssertionError(f"no file of {number}")


def choose_ids(served):
    """Return identifier → file of a few spectra, from plate to plate, the largest id included."""
    ids = np.sort(served.ids)
    some = ids[np.linspace(0, len(ids) - 1, NIDS).astype(int)].tolist()
    return {number: find_file(served.folder, number) for number in some}


def read_coadd(path):
    """Return the published table of a spectrum, in native byte order and lower case."""
    with fits.open(path) as hdus:
        table = hdus[1].data
        dtype = [(name.lower(), table[name].dtype.newbyteorder("=")) for name in table.names]
        coadd = np.empty(len(table), dtype)
        for name in table.names:
            coadd[name.lower()] = table[name]
    return coadd


def make_plan(catalogue, chosen):
    """Choose a cone and a polygon that hold some of the objects but not all."""
    sky = SkyCoord(catalogue["ra"] * u.deg, catalogue["dec"] * u.deg)
    # The old client writes positions with six decimals.
    ra, dec = round(float(catalogue["ra"][0]), 6), round(float(catalogue["dec"][0]), 6)
    centre = SkyCoord(ra * u.deg, dec * u.deg)
    apart = np.sort(centre.separation(sky).deg)
    inside = apart[apart < 60]
    half = len(inside) // 2
    size = round(float(inside[half - 1] + inside[half]) / 2, 6)
    corners = centre.directional_offset_by(np.arange(15, 375, 60) * u.deg, size * u.deg)
    first = unpack_specobjid(next(iter(chosen)))
    return {
        "context": "default",
        "cone": [ra, dec, size],
        "polygon": [[float(one.ra.deg), float(one.dec.deg)] for one in corners],
        "ids": [str(number) for number in chosen],
        "tuple": [int(first.plate), int(first.mjd), int(first.fiber), str(first.run2d)],
        "cutout": f"{CUTOUT_AA[0]:.0f}-{CUTOUT_AA[1]:.0f}",
    }


def in_cone(session):
    ra, dec, size = session.plan["cone"]
    sky = SkyCoord(session.catalogue["ra"] * u.deg, session.catalogue["dec"] * u.deg)
    inside = sky.separation(SkyCoord(ra * u.deg, dec * u.deg)).deg <= size
    return session.catalogue[inside]


def in_polygon(session):
    """Return the rows on the same side of all great circles through the edges."""
    corners = SkyCoord(session.plan["polygon"], unit="deg").cartesian.xyz.value.T
    sky = SkyCoord(session.catalogue["ra"] * u.deg, session.catalogue["dec"] * u.deg)
    sides = sky.cartesian.xyz.value.T @ np.cross(corners, np.roll(corners, -1, axis=0)).T
    return session.catalogue[np.all(sides >= 0, axis=1) | np.all(sides <= 0, axis=1)]


def ids_of(table):
    return sorted(table["specobjid"], key=int)


def as_ids(texts):
    return sorted(texts, key=int)


def assert_same_table(got, expected):
    """Compare field by field, bit for bit, type by type."""
    assert got.dtype == expected.dtype
    for name in expected.dtype.names:
        assert got[name].tobytes() == expected[name].tobytes(), name


def lattice_pixels(coadd):
    return np.rint(coadd["loglam"].astype(float) * 1e4).astype(int)


def test_it_asks_for_its_context_when_imported(session):
    asked = session.answers["asked_at_import"]
    assert asked == ["https://datalab.noirlab.edu/spec/contexts?context=default&format=text"]
    context = session.answers["context_at_import"]
    assert context["id_main"] == "specobjid"
    assert context["redshift"] == "z"
    assert context["catalog"].endswith(".specobj")
    assert context["rest_frame"] == "false"


def test_it_finds_the_service_alive(session):
    assert session.answers["service"]["alive"] is True
    assert session.answers["service"]["dead"] is False


def test_it_lists_what_is_served(session):
    service = session.answers["service"]
    assert service["contexts"].split("\n")[0].split() == ["context", "survey", "nspec", "title"]
    assert service["contexts_json"]["default"]["id_main"] == "specobjid"
    assert service["context"]["resolved"] in service["contexts"]
    assert "default" in service["profiles"]
    assert session.answers["context_at_import"]["catalog"] in service["catalogs"]


def test_it_sets_only_what_is_served(session):
    service = session.answers["service"]
    assert service["set_profile"] == service["set_context"] == "OK"
    assert service["set_wrong_profile"] == service["set_wrong_context"] == "Exception"
    assert service["context_after"] == service["context_set"] == session.plan["context"]


def test_query_by_position(session):
    expected = ids_of(in_cone(session))
    assert 0 < len(expected) < len(session.catalogue)
    assert as_ids(session.answers["queries"]["position"]) == expected
    assert as_ids(session.answers["queries"]["skycoord"]) == expected


def test_query_by_region(session):
    expected = ids_of(in_polygon(session))
    assert 0 < len(expected) < len(session.catalogue)
    assert as_ids(session.answers["queries"]["region"]) == expected


def test_query_the_whole_sky(session):
    assert as_ids(session.answers["queries"]["everything"]) == ids_of(session.catalogue)


def test_constraints(session):
    queries, catalogue = session.answers["queries"], session.catalogue
    assert queries["nothing"] == []
    assert as_ids(queries["either"]) == ids_of(in_cone(session))
    assert as_ids(queries["constraint"]) == ids_of(catalogue[catalogue["class"] == "STAR"])
    assert queries["limit"] == ids_of(in_cone(session))[:1]


def test_query_for_tuples_and_columns(session):
    queries = session.answers["queries"]
    parts = unpack_specobjid(ids_of(in_cone(session)))
    expected = sorted(zip(*(map(str, parts[name]) for name in parts.dtype.names), strict=True))
    names = ("plate", "mjd", "fiberid", "run2d")
    assert sorted(zip(*(queries["tuple"][name] for name in names), strict=True)) == expected
    assert queries["columns"] == {
        name: [str(value) for value in session.catalogue[name].tolist()]
        for name in ("specobjid", "z", "ra", "dec", "class")
    }


def test_query_to_a_file(session):
    assert session.answers["queries"]["saved"] == "OK"
    header, *ids = (session.folder / "ids.csv").read_text().split()
    assert header == "specobjid"
    assert as_ids(ids) == ids_of(in_cone(session))


@pytest.mark.parametrize("name", ["single", "single_uint64", "single_text", "single_tuple"])
def test_single_spectrum(session, name):
    assert_same_table(session.load(f"{name}.npy"), session.coadds[0])


def test_list_of_spectra(session):
    for one, expected in zip(session.load_list("list.npz"), session.coadds, strict=True):
        assert_same_table(one, expected)


def test_file_of_identifiers(session):
    small = [int(number) < 2**63 for number in session.plan["ids"]]
    expected = [coadd for coadd, taken in zip(session.coadds, small, strict=True) if taken]
    assert len(expected) > 1
    for one, coadd in zip(session.load_list("file.npz"), expected, strict=True):
        assert_same_table(one, coadd)


@pytest.mark.parametrize("name", ["pandas", "tables"])
def test_converted_spectra(session, name):
    for one, expected in zip(session.load_list(f"{name}.npz"), session.coadds, strict=True):
        for field in expected.dtype.names:
            assert np.array_equal(one[field], expected[field])


def test_some_vectors(session):
    assert_same_table(
        session.load("values.npy"), repack_fields(session.coadds[0][["flux", "ivar"]])
    )


def check_aligned(got, coadds):
    """Compare rows with the files, shifted by whole pixels, zero where there are none."""
    first = min(lattice_pixels(coadd)[0] for coadd in coadds)
    stop = max(lattice_pixels(coadd)[-1] for coadd in coadds) + 1
    assert got.shape == (len(coadds), stop - first)
    assert np.array_equal(lattice_pixels(got[0]), np.arange(first, stop))
    for row, coadd in zip(got, coadds, strict=True):
        inside = np.isin(np.arange(first, stop), lattice_pixels(coadd))
        assert_same_table(row[inside], coadd)
        assert np.array_equal(row["loglam"], got[0]["loglam"])
        for name in set(coadd.dtype.names) - {"loglam"}:
            assert not row[name][~inside].any()


@pytest.mark.parametrize("name", ["aligned", "aligned_array"])
def test_aligned_spectra(session, name):
    check_aligned(session.load(f"{name}.npy"), session.coadds)


def test_one_aligned_spectrum(session):
    # From an array of one row the old client returns the row.
    check_aligned(session.load("single_aligned.npy")[np.newaxis], session.coadds[:1])


def test_aligned_cutout(session):
    low, high = CUTOUT_AA
    cut = []
    for coadd in session.coadds:
        wave = np.power(10.0, lattice_pixels(coadd) * 1e-4)
        cut.append(coadd[(wave >= low) & (wave <= high)])
    check_aligned(session.load("cutout.npy"), cut)


def test_spectrum1d(session):
    expected = session.coadds[0]
    assert np.allclose(session.load("spectrum1d.npy"), expected["flux"], rtol=1e-6, atol=0)
    wave = session.answers["spectra"]["spectrum1d_wave"]
    assert np.allclose(wave, 10.0 ** expected["loglam"], rtol=1e-6, atol=0)
    assert session.answers["spectra"]["stack_shape"] == list(session.load("aligned.npy").shape)


def test_an_unknown_identifier_is_an_error(session):
    # The old client has no word for errors: it misses the span in the answer.
    assert session.answers["spectra"]["unknown"] == "KeyError"


def test_plot_finds_the_redshift(session, served):
    with fits.open(find_file(served.folder, int(session.plan["ids"][0]))) as hdus:
        z = float(hdus[2].data["Z"][0])
    assert session.answers["plot_label"].endswith(f"z={z:.3g}")


def test_previews(session):
    with Image.open(session.folder / "preview.png") as picture:
        assert picture.width > 2 * picture.height
    same = [(session.folder / name).read_bytes() for name in ("preview.png", "preview_tuple.png")]
    assert same[0] == same[1]


def test_grids_have_the_columns_and_rows_that_were_asked_for(session):
    sizes = {}
    for name in ("wide", "tall", "page", "tuples"):
        with Image.open(session.folder / f"grid_{name}.png") as picture:
            sizes[name] = picture.size
    assert sizes["wide"][0] / sizes["wide"][1] > 3
    assert sizes["tall"][0] / sizes["tall"][1] < 1
    assert sizes["page"] == sizes["tuples"]


def test_stacked_images(session):
    lengths = [len(coadd) for coadd in session.coadds]
    with Image.open(session.folder / "stack.png") as picture:
        levels = np.asarray(picture.convert("L"))
    assert levels.shape == (NIDS, max(lengths))
    # The first identifier is the bottom row.
    assert [int(np.flatnonzero(row)[-1] < length) for row, length in
            zip(levels[::-1], lengths, strict=True)] == [1] * NIDS  # fmt: skip
    with Image.open(session.folder / "stack_size.png") as picture:
        assert picture.size == (300, 200)
    with Image.open(session.folder / "stack_raw.png") as picture:
        assert picture.size == (max(lengths), 3 * NIDS)


def test_pictures_of_unknown_identifiers_are_errors(session):
    assert set(session.answers["pictures"].values()) <= {"Exception", "UnidentifiedImageError"}
