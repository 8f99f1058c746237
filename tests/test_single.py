"""A spectrum that travels alone: the same values as in a stream, in a form of its own."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import blosc

from serving import Served
from specserver.client.results.decode import Spectra, decode_parts, decode_single
from specserver.errors import BadParameter, SpecServerError, StoreError, UnknownField
from specserver.formats import registry
from specserver.formats.arrow import CellBatch, SpectrumStream
from specserver.model.grid import LogLinear, PixelRange
from specserver.model.survey import Vector
from specserver.wire.cells import CellColumn
from specserver.wire.head import StreamHead
from specserver.wire.media_types import ARROW, SPECTRUM

DTYPES = {"flux": "<f4", "mask": "<u4", "loglam": "<f4"}


def cell(values: np.ndarray | None, codec: str) -> CellColumn:
    """Return a column of one cell; None: it is absent."""
    data = b"" if values is None else values.tobytes()
    if values is not None and codec == "blosc":
        data = blosc.compress(data, b"lz4", 1, 1)
    offsets = np.array([0, len(data)], np.int64)
    return CellColumn(np.frombuffer(data, np.uint8), offsets, np.array([values is not None]))


@st.composite
def made(draw: st.DrawFn) -> SpectrumStream:
    """Return a stream of one spectrum, with all that differs between spectra."""
    codec = draw(st.sampled_from(["blosc", "raw"]))
    on_lattice = draw(st.booleans())
    first = draw(st.integers(-5, 40_000)) if on_lattice else 0
    before = draw(st.integers(0, 3)) if on_lattice else 0
    count, after = draw(st.integers(0, 9)), draw(st.integers(0, 3))
    width = before + count + after
    cells = {}
    for name, dtype in DTYPES.items():
        there = name == "loglam" if not on_lattice else draw(st.booleans())
        values = draw(st.binary(min_size=4 * width, max_size=4 * width)) if there else None
        if name != "loglam" or not on_lattice:
            given_ = None if values is None else np.frombuffer(values, dtype)
            cells[name] = cell(given_, codec)
    own = draw(st.sampled_from([None, "air", "unknown"]))
    head = StreamHead(
        context=draw(st.sampled_from(["default", "mock_dr1"])),
        survey="mock",
        grid=LogLinear(1e-4),
        record=tuple(Vector(name, dtype, "", "") for name, dtype in DTYPES.items()),
        codec=codec,
        nspec=1,
        npix=count,
        span=PixelRange(first, first + count) if on_lattice and count else PixelRange(0, 0),
        missing=(),
        flux_unit="1e-17 erg",
        medium="vacuum" if own is None else "",
        mask_vector="mask",
        bad_bits=draw(st.integers(0, 2**32 - 1)),
        id_column="specobjid",
    )
    dtype = draw(st.sampled_from(["<u8", "<i8"]))
    batch = CellBatch(
        ids=np.array([draw(st.integers(0, 2**63 - 1)) * (2 if dtype == "<u8" else -1)], dtype),
        contexts=["mock_dr1"],
        start=np.array([first - before], np.int32),
        width=np.array([width], np.int32),
        first=np.array([first], np.int32),
        count=np.array([count], np.int32),
        on_lattice=np.array([on_lattice]),
        cells=cells,
        columns=None,
        media=None if own is None else [own],
    )
    return SpectrumStream(head, dtype, tuple(cells), own is not None, iter([batch]))


def both(stream: SpectrumStream) -> tuple[bytes, bytes]:
    """Return the bytes of a stream of one spectrum in both forms."""
    (batch,) = stream.batches
    forms = []
    for kind in (SPECTRUM, ARROW):
        again = replace(stream, batches=iter([batch]))
        forms.append(b"".join(registry.write(SpectrumStream, again, kind)))
    return forms[0], forms[1]


def require_same(one: Spectra, other: Spectra) -> None:
    """Raise unless two decoded answers are the same, bit for bit."""
    for member in fields(Spectra):
        mine, theirs = getattr(one, member.name), getattr(other, member.name)
        if member.name == "data":
            assert isinstance(mine, list) == isinstance(theirs, list)
            mine, theirs = [(each.dtype, each.tobytes()) for each in mine], [
                (each.dtype, each.tobytes()) for each in theirs
            ]  # fmt: skip
        if isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype
            mine, theirs = mine.tolist(), theirs.tolist()
        assert mine == theirs, member.name


@given(made(), st.booleans(), st.sampled_from([None, ["flux"], ["loglam", "mask"]]))
def test_a_spectrum_alone_is_read_as_in_a_stream(
    stream: SpectrumStream, align: bool, values: list[str] | None
) -> None:
    alone, arrow = both(stream)
    (expected,) = decode_parts(BytesIO(arrow), values=values, align=align)
    require_same(decode_single(alone, values=values, align=align), expected)


@given(made(), st.data())
def test_bytes_that_are_not_those_sent_are_never_another_error(
    stream: SpectrumStream, data: st.DataObject
) -> None:
    alone, _ = both(stream)
    cut = data.draw(st.integers(0, len(alone) - 1))
    with pytest.raises(StoreError):
        decode_single(alone[:cut])
    with pytest.raises(StoreError):
        decode_single(alone + b"\0")
    changed = bytearray(alone)
    changed[cut] ^= data.draw(st.integers(1, 255))
    with suppress(SpecServerError):
        decode_single(bytes(changed))


@given(made())
def test_a_value_that_the_record_lacks_is_named(stream: SpectrumStream) -> None:
    with pytest.raises(UnknownField, match="wavelength"):
        decode_single(both(stream)[0], values=["wavelength"])


@given(made())
def test_only_a_stream_of_one_spectrum_is_written_alone(stream: SpectrumStream) -> None:
    head: Any = stream.head
    with pytest.raises(BadParameter, match="a single spectrum"):
        registry.write(SpectrumStream, replace(stream, head=replace(head, nspec=2)), SPECTRUM)


# --- Through the service --------------------------------------------------------------------------


def ask(running: Served, accept: str, **fields_: Any) -> urllib3.BaseHTTPResponse:
    """Post a request for spectra as a client that accepts some media types."""
    headers = {"Accept": accept} if accept else {}
    return urllib3.request(
        "POST", f"{running.url}/bulk/spectra", json=fields_, headers=headers, timeout=30
    )


def asked() -> Iterator[dict[str, Any]]:
    """Yield requests for a single spectrum."""
    yield {}
    yield {"vectors": ["ivar", "flux"]}
    yield {"cutout": [6500.0, 6600.0]}
    yield {"cutout": [10.0, 20.0], "align": True}
    yield {"resample": True, "missing": "skip"}


@pytest.mark.parametrize("fields_", list(asked()))
def test_the_service_answers_in_the_form_that_is_accepted(
    served: Served, fields_: dict[str, Any]
) -> None:
    one = str(served.ids[0])
    alone = ask(served, f"{SPECTRUM}, {ARROW}", ids=one, **fields_)
    arrow = ask(served, "", ids=one, **fields_)
    assert [alone.headers["Content-Type"], arrow.headers["Content-Type"]] == [SPECTRUM, ARROW]
    # A resampled one is heavy work, which is sent as it is made.
    assert ("Content-Length" in alone.headers) == ("resample" not in fields_)
    (expected,) = decode_parts(BytesIO(arrow.data))
    require_same(decode_single(alone.data), expected)


@pytest.mark.parametrize(
    ("more", "fields_"),
    [
        (["1"], {"missing": "skip"}),
        ([], {"columns": ["z"]}),
        ([], {"ids": "two"}),
    ],
)
def test_what_is_not_one_spectrum_alone_comes_as_a_stream(
    served: Served, more: list[str], fields_: dict[str, Any]
) -> None:
    ids = "\n".join([str(served.ids[0]), *more])
    if "ids" in fields_:
        fields_, ids = {}, "\n".join(map(str, served.ids[:2]))
    answer = ask(served, f"{SPECTRUM}, {ARROW}", ids=ids, **fields_)
    assert (answer.status, answer.headers["Content-Type"]) == (200, ARROW)


def test_an_error_is_answered_as_in_any_form(served: Served) -> None:
    answers = [ask(served, accept, ids="1") for accept in (SPECTRUM, "")]
    assert answers[0].status == 404
    assert answers[0].data == answers[1].data
