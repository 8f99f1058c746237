"""What travels is written and read by one definition."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from numcodecs import blosc

from specserver.errors import StoreError
from specserver.model.grid import LogLinear, PixelRange
from specserver.model.survey import Vector
from specserver.wire.cells import CellColumn, unpack_blosc
from specserver.wire.head import FilesHead, StreamHead, from_metadata, to_metadata

HEAD = StreamHead(
    context="mock_dr1",
    survey="mock",
    grid=LogLinear(1e-4),
    record=(Vector("flux", "<f4", "1e-17 erg", "flux"), Vector("loglam", "<f4", "", "")),
    codec="blosc",
    nspec=2,
    npix=7,
    span=PixelRange(35000, 35004),
    missing=("5",),
    damaged=("6",),
    flux_unit="1e-17 erg",
    mask_vector="and_mask",
    bad_bits=3,
    id_column="specobjid",
    medium="vacuum",
    frame="heliocentric",
)


@pytest.mark.parametrize("head", [HEAD, replace(HEAD, medium="", missing=(), damaged=())])
def test_the_head_of_spectra_is_read_as_it_was_written(head):
    travelled = from_metadata(pa.schema([], to_metadata(head.to_json())).metadata)
    assert StreamHead.from_json(travelled) == head


def test_the_head_of_spectra_has_the_keys_of_the_wire():
    keys = "version context survey grid record codec nspec npix span missing damaged flux_unit"
    keys += " surveys frame medium mask_vector bad_bits id_column"
    said = HEAD.to_json()
    assert list(said) == keys.split()
    assert said["version"] == 1
    assert said["span"] == [35000, 35004]
    assert [list(one) for one in said["record"]] == [["name", "dtype", "unit", "meaning"]] * 2
    assert replace(HEAD, medium="").to_json()["medium"] is None
    json.dumps(said, allow_nan=False)


def test_the_head_of_files_is_read_as_it_was_written():
    head = FilesHead(3, ("1",), ("2",))
    said = head.to_json()
    assert said == {"version": 1, "nspec": 3, "missing": ["1"], "damaged": ["2"]}
    assert FilesHead.from_json(said) == head


@pytest.mark.parametrize("read", [StreamHead.from_json, FilesHead.from_json])
def test_metadata_of_something_else_is_no_head(read):
    for metadata in (None, {}, {b"specserver": b"{"}, {b"specserver": b"[]"}):
        with pytest.raises(StoreError, match="not a stream of"):
            read(from_metadata(metadata))


@pytest.mark.parametrize("present", [[True, True, True], [True, False, True]])
def test_cells_are_read_as_they_were_written(present):
    cells = CellColumn(
        np.arange(5, dtype=np.uint8), np.array([0, 2, 2, 5]), np.array(present, np.bool_)
    )
    column = pa.concat_arrays([cells.to_arrow()])
    assert column.to_pylist() == [b"\x00\x01", b"" if present[1] else None, b"\x02\x03\x04"]
    found = CellColumn.from_arrow(column)
    assert found.offsets.tolist() == [0, 2, 2, 5]
    assert found.present.tolist() == present
    assert bytes(found.data) == bytes(cells.data)
    part = CellColumn.from_arrow(column.slice(1, 2))
    assert part.offsets.tolist() == [2, 2, 5]
    assert CellColumn.from_arrow(pa.array([], pa.large_binary())).offsets.tolist() == [0]
    with pytest.raises(TypeError):
        CellColumn.from_arrow(pa.array([1]))


def test_a_frame_is_unpacked_only_to_its_own_size():
    values = np.arange(100, dtype="<f4")
    frame = blosc.compress(values, b"lz4", 5, blosc.BITSHUFFLE)
    assert unpack_blosc(frame, 400) == values.tobytes()
    for damaged in (frame[:-1], frame + b"x", frame[:10], b""):
        with pytest.raises(ValueError, match="it "):
            unpack_blosc(damaged, 400)
    with pytest.raises(ValueError, match="400 bytes, not 200"):
        unpack_blosc(frame, 200)
