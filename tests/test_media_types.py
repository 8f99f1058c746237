"""One registry says which structure is answered in which media types."""

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import urllib3
from pyarrow import csv

from serving import Served
from specserver.errors import BadParameter
from specserver.formats.npy import ArraySequence, BlockedArray
from specserver.formats.registry import (
    media_type_of,
    media_types,
    names,
    negotiate,
    readable_types,
    write,
)
from specserver.formats.text import Listing
from specserver.wire.media_types import ARROW, CSV, JSON, OCTETS, TEXT

NEW = '''"""Tables as text with tabs."""

from collections.abc import Iterator

import pyarrow as pa

from specserver.formats.registry import writes


@writes(pa.Table, "text/tab-separated-values")
def write_tabs(table: pa.Table) -> Iterator[bytes]:
    """Yield a header and rows."""
    for row in (table.column_names, *zip(*table.to_pydict().values())):
        yield ("\\t".join(map(str, row)) + "\\n").encode()
'''
ASK = """
import json, sys
from specserver import formats
formats.__path__.append(sys.argv[1])
from starlette.testclient import TestClient
from specserver.server.app import create_app
from specserver.settings import Settings
app = create_app(Settings(data=sys.argv[2]))
with TestClient(app) as client:
    headers = {"Accept": "text/tab-separated-values;q=0.9, text/csv", "Content-Type": "text/csv"}
    body = "ra,dec\\n180.0,0.0\\n"
    answer = client.post("/spec/bulk/match?radius=1", content=body, headers=headers)
described = app.openapi()["paths"]["/spec/bulk/match"]["post"]["responses"]["200"]["content"]
print(json.dumps([answer.status_code, answer.headers["content-type"], answer.text,
                  list(described)]))
"""


@pytest.mark.proof
def test_a_media_type_is_one_function(mock_data: Path, tmp_path: Path) -> None:
    """No endpoint changes: those that negotiate tables answer in it, and describe it."""
    (tmp_path / "tabs.py").write_text(NEW)
    asked = [sys.executable, "-c", ASK, tmp_path, mock_data]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    status, kind, text, described = json.loads(done.stdout)
    assert (status, kind.partition(";")[0]) == (200, "text/tab-separated-values")
    header, row = text.splitlines()
    assert header.split("\t")[0] == "row"
    assert len(row.split("\t")) == len(header.split("\t"))
    assert described == [ARROW, CSV, "text/tab-separated-values"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", ARROW),
        ("*/*", ARROW),
        ("image/png, Text/CSV ; q=0.5, " + ARROW, CSV),
        (ARROW, ARROW),
        ("image/png", ARROW),
    ],
)
def test_the_first_accepted_media_type_is_chosen(accept: str, kind: str) -> None:
    assert negotiate(pa.Table, accept, ARROW) == kind


def test_a_query_in_bulk_is_answered_in_the_media_type_asked_for(served: Served) -> None:
    asked = {"constraint": "z > 0 ORDER BY specobjid LIMIT 3", "fields": ["specobjid", "z"]}
    url = f"{served.url}/bulk/query"
    usual = urllib3.request("POST", url, json=asked)
    assert usual.headers["Content-Type"] == ARROW
    chosen = urllib3.request("POST", url, json=asked, headers={"Accept": CSV})
    assert chosen.headers["Content-Type"].startswith(CSV)
    table = pa.ipc.open_stream(usual.data).read_all()
    found = csv.read_csv(pa.BufferReader(chosen.data))
    assert found["specobjid"].to_pylist() == table["specobjid"].to_pylist()
    assert found["z"].cast(table.schema.field("z").type).equals(table["z"])


def test_listings_have_a_name_for_each_form() -> None:
    assert names(Listing) == ["text", "json", "csv"]
    assert media_types(Listing, TEXT) == [TEXT, JSON, CSV]
    assert media_type_of(Listing, "csv") == CSV
    with pytest.raises(BadParameter, match="text, json or csv"):
        media_type_of(Listing, "xml")
    listing = Listing({"a": "é"}, ("name", "n"), [["x", 1], ["long", 22]])
    assert b"".join(write(Listing, listing, JSON)).decode() == '{"a":"é"}'
    assert b"".join(write(Listing, listing, TEXT)).decode() == "name  n\nx     1\nlong  22\n"
    assert StringIO(b"".join(write(Listing, listing, CSV)).decode()).readlines()[1] == "x,1\n"


def test_positions_are_read_from_what_they_are_written_in() -> None:
    from specserver.formats.positions import Positions

    assert set(readable_types(Positions)) == {ARROW, CSV}


def test_arrays_are_numpy_files(tmp_path: Path) -> None:
    rows = np.arange(300_000, dtype=">f4").reshape(300, 1000)
    array = BlockedArray(rows.dtype, rows.shape, iter([rows[:128], rows[128:]]))
    pieces = list(write(BlockedArray, array, OCTETS))
    assert len(pieces) == 2
    (tmp_path / "a.npy").write_bytes(b"".join(pieces))
    assert array.nbytes == (tmp_path / "a.npy").stat().st_size
    assert np.array_equal(np.load(tmp_path / "a.npy"), rows)
    two = ArraySequence(iter([rows[0], rows[:2]]))
    (tmp_path / "two.npy").write_bytes(b"".join(write(ArraySequence, two, OCTETS)))
    with (tmp_path / "two.npy").open("rb") as file:
        assert [np.load(file).shape, np.load(file).shape] == [(1000,), (2, 1000)]
