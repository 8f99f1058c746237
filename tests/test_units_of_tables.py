"""Tables of `query` and `match` say in what units their columns are, in every kind of file."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.table import Table

from commands import command
from serving import serve
from specserver.client.api import SpecClient
from specserver.client.results.columns import Columns
from specserver.client.results.query_results import to_result
from specserver.data.root import open_root
from specserver.errors import BadParameter
from specserver.ingest import run_ingest
from specserver.service.joint_query import _unit
from test_lamost import write_lamost

FIELDS = "ra,dec,mjd,z,class"
UNITS = {"ra": u.deg, "dec": u.deg, "mjd": u.d, "z": None}
READ = {".fits": "fits", ".vot": "votable", ".ecsv": "ascii.ecsv", ".parquet": "parquet"}


@pytest.fixture(scope="module")
def client(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpecClient]:
    """Return a client of a service with a few spectra of two surveys and a value-added table."""
    folder, data = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("data")
    for path in sorted(mock_survey.rglob("spec-*.fits"))[:6]:
        shutil.copy(path, folder)
    run_ingest(open_root(data), "sdss_dr17", [folder], workers=1)
    run_ingest(open_root(data), "lamost_dr7", [write_lamost(folder)], workers=1)
    with serve(data, folder) as running:
        client = SpecClient("sdss_dr17", svc_url=running.url)
        ids = client.query(constraint="plate > 0", primary=False)
        made = Table({"specobjid": ids, "ra": np.arange(len(ids), dtype=float)})
        made["dec"], made["mass"] = 1.0, 10.0 * u.M_sun
        made.write(folder / "masses.fits")
        command("catalog", "add", "sdss_dr17", "masses", folder / "masses.fits", "--data", data)
        yield client


def units_of(table: Table) -> dict[str, object]:
    return {name: table[name].unit for name in UNITS}


def test_a_table_has_the_units_of_its_columns(client: SpecClient, tmp_path: Path) -> None:
    asked = {"constraint": "plate > 0", "fields": FIELDS, "primary": False}
    table = client.query(**asked)
    assert units_of(table) == UNITS
    assert table["class"].unit is None
    for ending, kind in READ.items():
        path = tmp_path / f"table{ending}"
        client.query(**asked, out=path)
        read = Table.read(path, format=kind)
        assert units_of(read) == UNITS, ending
        for name in UNITS:
            assert np.array_equal(read[name], table[name]), (ending, name)
    plain = client.query(**(asked | {"fields": "ra"}))
    assert type(plain) is np.ndarray
    frame = table.to_pandas()
    assert np.array_equal(frame["ra"].to_numpy(), plain)
    client.query(**asked, out=tmp_path / "table.csv")
    header, first, *_ = (tmp_path / "table.csv").read_text().splitlines()
    assert header.endswith(FIELDS)
    assert repr(float(table["ra"][0])) in first


def test_other_spellings_several_contexts_and_matches_have_them_too(client: SpecClient) -> None:
    asked = {"constraint": "z > -1", "fields": "RA,Dec,z", "primary": False}
    assert client.query(**asked)["ra"].unit == u.deg
    joined = client.query(**asked, context=["sdss_dr17", "lamost_dr7"])
    assert (joined["RA"].unit, joined["Dec"].unit, joined["z"].unit) == (u.deg, u.deg, None)
    table = client.query(**asked)
    found = client.match(table, radius=1.0, fields="ra,dec,z", primary=False)
    assert (found["ra"].unit, found["dec"].unit, found["z"].unit) == (u.deg, u.deg, None)


def test_of_a_value_added_table_the_position_is_in_degrees(client: SpecClient) -> None:
    table = client.query(constraint="mass > 0", fields="ra,dec,mass", catalog="masses")
    assert [table[name].unit for name in ("ra", "dec", "mass")] == [u.deg, u.deg, u.M_sun]


def test_units_of_one_meaning_are_joined_and_a_strange_one_is_kept() -> None:
    def of(unit: str) -> pa.Table:
        fields = [pa.field("t", pa.float64(), metadata={"unit": unit})]
        return pa.table([[1.0]], schema=pa.schema(fields))

    assert _unit("t", [of("day"), of("d")]) == "day"
    with pytest.raises(BadParameter, match="units differ"):
        _unit("t", [of("s"), of("d")])
    strange = Columns({"id": np.array([1]), "t": np.array([1.0])}, {"t": "fathoms of mud"})
    assert str(to_result(strange, ["t"])["t"].unit) == "fathoms of mud"
