"""Hostile requests: what they name is counted before it takes memory, and time has an end."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote_plus, urlencode

import numpy as np
import pyarrow as pa
import pytest
import urllib3

from serving import Served, serve
from specserver.errors import BadIdentifier, BadParameter, TooMuch
from specserver.formats.positions import Positions
from specserver.formats.registry import read
from specserver.model.id_text import parse_id_text
from specserver.model.ids import IdForm
from specserver.server.parameters import read_cutout
from specserver.server.runtime.bodies import MAX_DEPTH, check_json, read_fields
from specserver.settings import Settings

MAX_IDS = 100_000
NBYTES = 6_000_000
PEAK_BYTES = 100_000_000
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
ARROW = "application/vnd.apache.arrow.stream"

# --- Identifiers as text --------------------------------------------------------------------------

TEXTS = {
    "numbers": "{n}\n",
    "numbers with commas": "{n},",
    "tuples": "(266,51602,{n})\n",
    "tuples of a kind": "({n},)\n",
    "a list of tuples": "(266, 51602, '{n}'), ",
    "cells and tuples": "(266,5) 299489676975171584\n",
}


@pytest.mark.parametrize("piece", TEXTS.values(), ids=TEXTS)
def test_as_many_as_the_limit_are_read_and_one_more_is_not(piece: str) -> None:
    text = "".join(piece.format(n=number) for number in range(1000, 1060)).rstrip(", ")
    text = f"[{text}]" if piece.startswith("(266, ") else text
    named = parse_id_text(text)
    assert parse_id_text(text, limit=len(named)) == named
    with pytest.raises(TooMuch, match=r"the limit is \d+ \(the server's setting max_ids\): ask in"):
        parse_id_text(text, limit=len(named) - 1)


@pytest.mark.parametrize("header", ["specobjid", "plate,mjd,fiberid", "my_ids"])
def test_rows_of_a_table_are_counted(header: str) -> None:
    row = {"specobjid": "{n}", "my_ids": "{n}"}.get(header, "{n},51602,1")
    text = "\n".join([header, *(row.format(n=number) for number in range(300, 310))])
    assert len(parse_id_text(text, limit=10)) == 10
    with pytest.raises(TooMuch, match="max_ids"):
        parse_id_text(text, limit=9)


def test_choices_within_tuples_count() -> None:
    text = "(1963,'1-3,5,9')\n(1964,'7,8')"
    assert len(parse_id_text(text, limit=5)) == 2
    with pytest.raises(TooMuch, match="max_ids"):
        parse_id_text(text, limit=4)
    with pytest.raises(TooMuch, match=r"one part of a tuple.*10,000"):
        parse_id_text("(1963,'" + "1," * 10_000 + "1')")


def test_a_quote_that_is_never_closed_makes_no_endless_row() -> None:
    with pytest.raises(BadIdentifier, match="characters"):
        parse_id_text("specobjid,x\n1" + ',"\n"' * 400_000)


# --- Bodies ---------------------------------------------------------------------------------------

SETTINGS = Settings(max_ids=1000, max_polygon_corners=100)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"z":[' + b"0," * 5_000 + b"0]}", "values in JSON"),
        (b'{"columns":[' + b"{}," * 2_000 + b"{}]}", "arrays in JSON"),
        (b"[" * 20, "arrays within each other"),
        (b"{" + b",".join(b'"a%d":0' % n for n in range(200)) + b"}", "fields in JSON"),
    ],
)
def test_json_is_counted_before_it_is_parsed(body: bytes, said: str) -> None:
    with pytest.raises(TooMuch, match=said):
        check_json(body, SETTINGS)


def test_json_that_is_needed_passes() -> None:
    ids = ",".join(map(str, range(1000))) + '"\\[{['
    check_json(json.dumps({"ids": ids, "z": [0.1] * 1000}).encode(), SETTINGS)
    check_json(json.dumps({"polygon": [[1.0, 2.0]] * 100}).encode(), SETTINGS)
    check_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, SETTINGS)
    check_json(b'{"ids": "never closed [[[[', SETTINGS)
    with pytest.raises(BadParameter, match="UTF-8"):
        check_json(json.dumps({"ids": "\u2200"}, ensure_ascii=False).encode("utf-16"), SETTINGS)


@pytest.mark.parametrize("text", ["a b+c", "1,2\n3" * 50_000, "é€𝄞%" * 40_000, "%", "%2", ""])
def test_forms_are_read_as_they_were_written(text: str) -> None:
    assert read_fields(urlencode({"id_list": text, "b": "1"}).encode()) == {
        "id_list": text,
        "b": "1",
    }
    assert read_fields(f"a={quote_plus(text)}&&a=2&c".encode()) == {"a": f"{text},2", "c": ""}


def test_forms_have_so_many_fields() -> None:
    with pytest.raises(TooMuch, match=r"fields of a form.*100"):
        read_fields(b"a=1&" * 101)
    with pytest.raises(BadParameter, match="form"):
        read_fields(b"a=\xff")


def stream(**columns: object) -> bytes:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
def test_positions_are_counted_before_they_take_memory(end: str) -> None:
    text = "ra,dec" + end + f"1,2{end}" * 50
    assert len(read(Positions, text.encode(), "text/csv", 50).ra_deg) == 50
    with pytest.raises(TooMuch, match=r"positions.*49.*max_positions"):
        read(Positions, text.encode(), "text/csv", 49)
    body = stream(ra=pa.array([1] * 50, pa.int8()), dec=pa.array([2] * 50, pa.int8()))
    assert len(read(Positions, body, ARROW, 50).ra_deg) == 50
    with pytest.raises(TooMuch, match=r"50 positions.*49.*max_positions"):
        read(Positions, body, ARROW, 49)


def test_what_is_passed_over_in_an_upload_takes_no_memory() -> None:
    header = "ra,dec," + ",".join(f"c{n}" for n in range(20_000))
    with pytest.raises(TooMuch, match="header"):
        read(Positions, f"{header}\n1,2\n".encode(), "text/csv", 10)
    names = pa.DictionaryArray.from_arrays(pa.array([0]), pa.array(["x" * 100_000]))
    table = pa.table({"ra": [1.0], "dec": [2.0], "name": names})
    for codec in (None, "zstd", "lz4"):
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression=codec)
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        body = sink.getvalue().to_pybytes()
        if codec is None:
            assert read(Positions, body, ARROW, 10).ra_deg.tolist() == [1.0]
        else:
            with pytest.raises(BadParameter, match="uncompressed"):
                read(Positions, body, ARROW, 10)


def test_batches_of_an_upload_are_counted() -> None:
    schema = pa.schema({"ra": pa.float64(), "dec": pa.float64()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        empty = pa.record_batch([pa.array([], pa.float64())] * 2, schema=schema)
        for _ in range(10_001):
            writer.write_batch(empty)
    with pytest.raises(TooMuch, match="batches"):
        read(Positions, sink.getvalue().to_pybytes(), ARROW, 10)


# --- A worker under attack ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bounded(mock_data: Path, mock_survey: Path) -> Iterator[Served]:
    """A service of one process that takes 100,000 identifiers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPECSERVER_MAX_IDS", str(MAX_IDS))
        patch.setenv("SPECSERVER_MAX_POSITIONS", str(MAX_IDS))
        with serve(mock_data, mock_survey) as running:
            yield running


def filled(piece: str) -> str:
    return piece * (NBYTES // len(piece))


def bulk(text: str, **others: object) -> bytes:
    return json.dumps({"ids": text, **others}).encode()


LISTS: dict[str, Callable[[], str]] = {
    "numbers": lambda: filled("1000 "),
    "words": lambda: filled("10 ") + "x",
    "lines": lambda: filled("1000\n") + "(1,)",
    "tuples": lambda: filled("(1,)\n"),
    "brackets": lambda: filled("()"),
    "a list": lambda: "[" + filled("(1,2),") + "(1,2)]",
    "wildcards": lambda: filled("(1,*)"),
    "choices": lambda: "(1,'" + filled("1,") + "1')",
    "header": lambda: filled("a,") + "b\n1",
    "table": lambda: "plate,mjd,fiberid\n" + filled("1,2,3\n"),
    "blank lines": lambda: filled("\n") + "(1,)",
}
BODIES: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    **{
        f"bulk, {name}": ("bulk/spectra", JSON, lambda text=text: bulk(text()))
        for name, text in LISTS.items()
    },
    "form": ("getSpec", FORM, lambda: b"id_list=" + filled("1000,").encode()),
    "encoded form": ("listSpan", FORM, lambda: b"id_list=" + filled("%31%2C").encode()),
    "fields": ("getSpec", FORM, lambda: filled("a=1&").encode()),
    "files": ("bulk/files", JSON, lambda: bulk(filled("1000,"))),
    "grid": ("plotGrid", FORM, lambda: b"nx=1&id_list=" + filled("1000%0A").encode()),
    "grid of JSON": ("plotGrid", JSON, lambda: b'{"a":[' + filled("{},").encode() + b"0]}"),
    "redshifts": ("bulk/stack", JSON, lambda: b'{"ids":"1","z":[' + filled("1,").encode() + b"1]}"),
    "wrong names": (
        "bulk/spectra", JSON, lambda: b'{"ids":"1","columns":[' + filled("1,").encode() + b"1]}"
    ),
    "wrong fields": (
        "bulk/query", JSON,
        lambda: b"{" + b",".join(b'"%d":0' % n for n in range(700_000)) + b"}",
    ),
    "corners": ("bulk/query", JSON, lambda: b'{"polygon":[' + filled("[1,2],").encode() + b"0]}"),
    "positions": ("bulk/match", "text/csv", lambda: b"ra,dec\n" + filled("1,1\n").encode()),
    "short positions": (
        "bulk/match", ARROW,
        lambda: stream(ra=np.ones(NBYTES // 2, np.int8), dec=np.ones(NBYTES // 2, np.int8)),
    ),
}  # fmt: skip


def peak_bytes(running: Served) -> int:
    """Return the most memory that the process has held."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.proof
@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_takes_little_memory(bounded: Served, name: str) -> None:
    """The peak of all requests is bounded: each would have taken more than it by itself."""
    path, kind, make = BODIES[name]
    assert urllib3.request("GET", f"{bounded.url}/ping").status == 200
    Path(f"/proc/{bounded.process.pid}/clear_refs").write_text("5")
    before = peak_bytes(bounded)
    answer = urllib3.request(
        "POST", f"{bounded.url}/{path}", body=make(), headers={"Content-Type": kind},
        retries=False, timeout=120,
    )  # fmt: skip
    told = answer.json()
    assert peak_bytes(bounded) - before < PEAK_BYTES
    if name in {"bulk, brackets", "bulk, blank lines"}:
        # They name nothing, or one spectrum that is not here.
        assert answer.status in {200, 400, 404, 413}
        return
    assert (answer.status, told["code"]) == (413, "too_much"), told
    assert "the limit is" in told["message"]
    assert "ask in parts" in told["message"]


def test_spectra_that_have_names_are_counted() -> None:
    named = IdForm("number", ("name",), texts=1, has_reduction=False)
    text = "\n".join(f"star-{number}" for number in range(20))
    assert len(parse_id_text(text, named, limit=20)) == 20
    with pytest.raises(TooMuch, match="max_ids"):
        parse_id_text(text, named, limit=19)


@pytest.mark.parametrize("text", [" " * 10**6 + "x", "1" * 10**6, "1.0" * 300_000, "(" * 10**6])
@pytest.mark.parametrize("name", ["cutout", "cmap", "context"])
def test_long_text_is_looked_at_once_and_told_shortly(
    bounded: Served, name: str, text: str
) -> None:
    """Blanks for a cutout kept a process busy for hours, past any time-out, and deaf to others."""
    path = "stackedImage" if name == "cmap" else "getSpec"
    answer = urllib3.request(
        "POST", f"{bounded.url}/{path}", headers={"Content-Type": FORM}, retries=False, timeout=30,
        body=urlencode({"id_list": str(bounded.ids[0]), name: text}),
    )  # fmt: skip
    assert answer.status in {400, 404, 413}, answer.data[:500]
    assert len(answer.data) < 2000


def test_a_cutout_is_read_as_ever() -> None:
    for text in ("6500-7200", " [ 6500. , 7.2e3 ] ", "(6500,7200)", "6500.0 - 7200e+0"):
        assert read_cutout(text) == (6500.0, 7200.0)
