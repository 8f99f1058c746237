"""Digests of an ingest equal those of the plain, slower way."""

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from specserver.catalog.segment_rows import _column, _given
from specserver.digests import digest_of
from specserver.errors import BadFile
from specserver.ingest.spectrum_digests import row_digest, vectors_digest
from specserver.model.survey import RawSpectrum
from specserver.ops.fitstable import BLOCK, CARD, header_end, read_tables
from specserver.ops.reading import read_spectra
from specserver.ops.wholefits import require_whole, whole_bytes
from specserver.surveys.sdss import SDSS

ROWS: tuple[dict[str, Any], ...] = (
    {},
    {"a": None},
    {"b": np.float32(1.1), "a": "text", "c": None},
    {"wide": np.float64(0.1), "half": np.float16(0.1), "nan": np.float32(np.nan)},
    {"u": np.uint64(2**64 - 1), "i": np.int16(-3), "n": np.uint8(7), "true": np.bool_(True)},
    {"50 %": np.str_("a 'quoted' text"), "'": "é\udc80", "%s": 3, "t": np.timedelta64(5, "s")},
)


def of(row: dict[str, Any]) -> RawSpectrum:
    return RawSpectrum(1, np.float64(12.5), np.nan, "26", np.arange(3.0), {}, row)


def refusal(look: Callable[[Any], Any], given_: Any) -> str:
    try:
        look(given_)
    except BadFile as error:
        return str(error)
    return ""


def signed(made: Any) -> int:
    return int.from_bytes(made.digest(), "little", signed=True)


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_the_digest_of_a_row_is_that_of_its_sorted_python_values(row: dict[str, Any]) -> None:
    # Data folders hold such digests: another text would make every stored row a changed one.
    plain = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in row.items()
        if value is not None
    }
    one = of(row)
    text = repr((sorted(plain.items()), one.ra_deg, one.dec_deg, one.reduction))
    expected = signed(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8))
    assert row_digest(one) == expected
    assert row_digest(of(dict(reversed(row.items())))) == expected


def test_the_digest_of_vectors_is_that_of_their_bytes(mock_survey: Path) -> None:
    (one,) = SDSS.reader.read(min(mock_survey.rglob("spec-*.fits")))
    first = SDSS.lattice_start(one.axis)
    made = blake2b(f"{first} {len(one.axis)} ".encode(), digest_size=8)
    for vector in SDSS.vectors:
        made.update(one.vectors[vector.name].astype(vector.dtype).tobytes())
    assert vectors_digest(SDSS, one, first) == signed(made)


@given(st.lists(st.sampled_from(["END", "END     ", "EXTEND  = T", "E", " END"]), max_size=400))
def test_a_header_ends_where_its_end_card_says(texts: list[str]) -> None:
    data = b"".join(text.encode().ljust(CARD) for text in texts)
    ends = [
        at for at, text in enumerate(texts) if text.startswith("END") and len(text.strip()) == 3
    ]
    if not ends:
        with pytest.raises(BadFile, match="no END card"):
            header_end(data, 0)
    else:
        assert header_end(data, 0) == -(-(ends[0] + 1) * CARD // BLOCK) * BLOCK
        assert header_end(b"x" * 7 + data, 7) == header_end(data, 0) + 7


def test_columns_are_the_same_at_once_and_one_by_one(mock_survey: Path, tmp_path: Path) -> None:
    path = tmp_path / "unsigned.fits"
    columns = [
        fits.Column("a", "J", array=np.array([1, 2**32 - 1], np.uint32), bzero=2**31),
        fits.Column("b", "E", array=np.array([np.nan, -0.0])),
        fits.Column("c", "2I", array=np.array([[1, 2], [3, 4]])),
    ]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path)
    for one in (min(mock_survey.rglob("spec-*.fits")), path):
        table = read_tables(one.read_bytes(), 1)[1][0]
        names = table.layout.dtype.names or ()
        for name, values in zip(names, table.columns(names), strict=True):
            assert values.dtype == table.column(name).dtype
            assert values.tobytes() == table.column(name).tobytes()
        for name, value in table.scalars(1).items():
            assert type(value) is type(table.column(name)[1])
            np.testing.assert_equal(value, table.column(name)[1])
    assert set(table.scalars(1)) == {"a", "b"}


def test_bytes_and_files_are_refused_alike(mock_survey: Path, tmp_path: Path) -> None:
    whole = min(mock_survey.rglob("full/**/spec-*.fits")).read_bytes()
    rng = np.random.default_rng(8)
    path = tmp_path / "spec-0266-51630-0001.fits"
    for left in {0, 1, 9, CARD, BLOCK - 1, BLOCK, *rng.integers(1, len(whole), 80).tolist()}:
        path.write_bytes(whole[:left])
        told = [refusal(require_whole, path), refusal(whole_bytes, whole[:left])]
        assert told[0] == told[1]
    assert whole_bytes(whole) == whole


def test_a_reader_that_takes_bytes_is_given_those_that_were_read(mock_survey: Path) -> None:
    path = min(mock_survey.rglob("spec-*.fits"))
    content = path.read_bytes()
    gone = path.with_name("gone") / path.name
    (given_,), (read,) = read_spectra(SDSS.reader, gone, content), read_spectra(SDSS.reader, path)
    assert given_.vectors["flux"].tobytes() == read.vectors["flux"].tobytes()
    assert given_.row == read.row


def test_rows_of_several_families_turn_to_columns() -> None:
    rows = [{"a": 1, "b": 2}, {"c": 3}, {"a": 4, "b": 5}, {"b": 6, "a": 7}, {}]
    columns = _given(rows)
    assert list(columns) == ["a", "b", "c"]
    for name, values in columns.items():
        assert values == [row.get(name) for row in rows]


@pytest.mark.parametrize("kind", ["u1", "u8", "i4", "f4", "f8"])
@pytest.mark.parametrize("dtype", [None, "<i8", "<f4"])
def test_a_column_is_what_its_python_values_make(kind: str, dtype: str | None) -> None:
    values = [np.dtype(kind).type(value) for value in (0, 1, 100)]
    for some in (values, [*values, None]):
        made = _column(some, dtype)
        plain = [None if value is None else value.item() for value in some]
        assert made.equals(pa.array(plain, made.type))


def test_a_digest_is_of_all_blocks_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"123456789")
    assert digest_of(path) == "9 cbf43926"
    path.write_bytes(bytes(2**18 + 1))
    changed = digest_of(path)
    path.write_bytes(bytes(2**18) + b"\1")
    assert digest_of(path) != changed
