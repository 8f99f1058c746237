"""Streams made by docs/wire.md come out of the client bit for bit."""

import io
import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import blosc

from specserver.client.results.columns import read_columns
from specserver.client.results.decode import decode_parts
from specserver.errors import MixedLattices, StoreError, UnknownField
from specserver.model.grid import Linear, LogLinear

RECORD = [
    ("flux", "<f4"),
    ("loglam", "<f4"),
    ("ivar", "<f4"),
    ("and_mask", "<i4"),
    ("or_mask", "<i4"),
    ("wdisp", "<f4"),
    ("sky", "<f4"),
    ("model", "<f4"),
]
VECTORS = [name for name, _ in RECORD if name != "loglam"]
DTYPE = dict(RECORD)
GRID = LogLinear(1e-4)


@dataclass(frozen=True)
class Sent:
    """One spectrum as the service would send it."""

    id: int
    first: int
    values: np.ndarray
    before: int = 0
    after: int = 0
    zero: tuple[str, ...] = ()
    on_lattice: bool = True

    def cell(self, name: str, codec: str) -> bytes | None:
        if name in self.zero or (name == "loglam" and self.on_lattice):
            return None
        before, after = (np.full(n, 7, dtype=DTYPE[name]) for n in (self.before, self.after))
        cell = np.concatenate([before, self.values[name], after])
        return (
            blosc.compress(cell, b"lz4", 5, blosc.BITSHUFFLE) if codec == "blosc" else bytes(cell)
        )


def spectrum(id_: int, first: int, npix: int, **more) -> Sent:
    """A spectrum of random bits, NaN payloads among them."""
    rng = np.random.default_rng(id_)
    values = np.zeros(npix, dtype=RECORD)
    for name, dtype in RECORD:
        values[name] = rng.integers(0, 2**32, npix, dtype=np.uint32).view(dtype)
    on_lattice = more.get("on_lattice", True)
    if on_lattice:
        values["loglam"] = GRID.axis_values(first, npix)
    for name in more.get("zero", ()):
        values[name] = 0
    return Sent(id_, first, values, **more)


def head(sent: list[Sent], vectors=VECTORS, codec="blosc") -> dict:
    """Metadata of a stream of these spectra."""
    inside = [one for one in sent if one.on_lattice and len(one.values)]
    return {
        "version": 1,
        "context": "sdss_dr17",
        "survey": "sdss",
        "grid": GRID.to_dict(),
        "record": [
            {"name": name, "dtype": dtype, "unit": "", "meaning": ""}
            for name, dtype in RECORD
            if name in {*vectors, "loglam"}
        ],
        "codec": codec,
        "nspec": len(sent),
        "npix": sum(len(one.values) for one in sent),
        "span": [
            min((one.first for one in inside), default=0),
            max((one.first + len(one.values) for one in inside), default=0),
        ],
        "missing": [],
        "flux_unit": "1e-17 erg / (s cm2 Angstrom)",
        "frame": "heliocentric",
        "medium": "vacuum",
        "mask_vector": "and_mask",
        "bad_bits": 0,
        "id_column": "specobjid",
    }


def encode(sent: list[Sent], *, vectors=VECTORS, codec="blosc", per_batch=3, **changed) -> bytes:
    """The stream of docs/wire.md; ``changed`` overrides metadata."""
    own_axis = ["loglam"] if any(not one.on_lattice for one in sent) else []
    cells = [*vectors, *own_axis]
    fields = [("id", pa.uint64()), ("context", pa.string())]
    fields += [(name, pa.int32()) for name in ("start", "width", "first", "count")]
    fields += [("on_lattice", pa.bool_())]
    fields += [(name, pa.large_binary()) for name in cells]
    fields += [("col:z", pa.float32()), ("col:class", pa.string())]
    meta = {"specserver": json.dumps(head(sent, vectors, codec) | changed)}
    schema = pa.schema(fields, metadata=meta)
    out = io.BytesIO()
    with pa.ipc.new_stream(out, schema) as writer:
        for at in range(0, len(sent), per_batch):
            part = sent[at : at + per_batch]
            columns = {
                "id": [one.id for one in part],
                "context": ["sdss_dr16" for _ in part],
                "start": [one.first - one.before for one in part],
                "width": [one.before + len(one.values) + one.after for one in part],
                "first": [one.first for one in part],
                "count": [len(one.values) for one in part],
                "on_lattice": [one.on_lattice for one in part],
                "col:z": [one.id / 8 if one.id % 2 else None for one in part],
                "col:class": ["GALAXY" if one.id % 2 else None for one in part],
            }
            columns |= {name: [one.cell(name, codec) for one in part] for name in cells}
            writer.write_batch(pa.record_batch(columns, schema=schema))
    return out.getvalue()


def decode(body: bytes, **options):
    (part,) = decode_parts(io.BytesIO(body), **options)
    return part


def bits(array: np.ndarray) -> bytes:
    """Bytes of an array: NaN equals NaN, and -0 differs from 0."""
    return array.dtype.str.encode() + np.ascontiguousarray(array).tobytes()


MANY = [
    spectrum(1, 35600, 40, before=5, after=2),
    spectrum(2, 35590, 60, zero=("ivar", "and_mask", "or_mask")),
    spectrum(3, 35605, 0),
    spectrum(4, 35605, 1, before=1),
    spectrum(2**63 + 5, 35580, 33, after=30),
]


@pytest.mark.parametrize("codec", ["blosc", "raw"])
def test_every_value_arrives(codec):
    got = decode(encode(MANY, codec=codec))
    assert [bits(one) for one in got.data] == [bits(one.values) for one in MANY]
    assert got.data[0].dtype == np.dtype(RECORD)
    assert got.ids.dtype == np.uint64
    assert got.ids.tolist() == [one.id for one in MANY]
    assert got.contexts == ["sdss_dr16"] * len(MANY)
    assert got.first.tolist() == [one.first for one in MANY]


@pytest.mark.parametrize("codec", ["blosc", "raw"])
def test_aligned_is_one_array_padded_with_zeros(codec):
    got = decode(encode(MANY, codec=codec), align=True)
    low, high = 35580, 35650
    assert got.data.shape == (len(MANY), high - low)
    assert all(bits(row["loglam"]) == bits(GRID.axis_values(low, 70)) for row in got.data)
    for row, one in zip(got.data, MANY, strict=True):
        begin, end = one.first - low, one.first - low + len(one.values)
        for name in VECTORS:
            assert bits(row[name][begin:end]) == bits(one.values[name])
            assert not row[name][:begin].any()
            assert not row[name][end:].any()


def test_only_the_values_asked_for():
    body = encode(MANY, vectors=["flux", "ivar"])
    got = decode(body, values=["ivar", "flux"])
    assert got.data[0].dtype.names == ("flux", "ivar")
    assert bits(got.data[0]["flux"]) == bits(MANY[0].values["flux"])
    with_axis = decode(body, values=["loglam", "flux"]).data[1]
    assert with_axis.dtype.names == ("flux", "loglam")
    assert bits(with_axis["loglam"]) == bits(MANY[1].values["loglam"])
    axis_only = decode(encode(MANY, vectors=[]), values=["loglam"], align=True).data
    assert axis_only.dtype.names == ("loglam",)
    with pytest.raises(UnknownField, match=r"wavelength.*flux, loglam, ivar"):
        decode(body, values=["wavelength"])


def test_a_spectrum_off_the_lattice_keeps_its_own_wavelengths():
    odd = spectrum(9, 0, 21, on_lattice=False)
    body = encode([MANY[0], odd, MANY[1]])
    got = decode(body)
    assert [bits(one) for one in got.data] == [bits(o.values) for o in (MANY[0], odd, MANY[1])]
    assert got.on_lattice.tolist() == [True, False, True]
    assert "loglam" not in (decode(body, values=["flux"]).data[1].dtype.names or ())
    with pytest.raises(MixedLattices, match="9"):
        decode(body, align=True)


def test_a_spectrum_off_the_lattice_without_wavelengths_is_refused():
    odd = spectrum(9, 0, 21, on_lattice=False, zero=("loglam",))
    with pytest.raises(StoreError, match="no wavelengths"):
        decode(encode([odd]))


def test_catalogue_columns_keep_type_and_order():
    got = decode(encode(MANY, per_batch=2))
    assert got.columns["z"].dtype == np.float32
    expected = np.array([1 / 8, np.nan, 3 / 8, np.nan, (2**63 + 5) / 8], dtype=np.float32)
    np.testing.assert_array_equal(got.columns["z"], expected)
    assert got.columns["class"].tolist() == ["GALAXY", "", "GALAXY", "", "GALAXY"]


def test_nothing_found_is_an_empty_answer():
    body = encode([], missing=["17", "18"])
    got = decode(body)
    assert (got.data, got.ids.tolist(), got.ids.dtype) == ([], [], np.uint64)
    assert got.columns["z"].dtype == np.float32
    assert got.head.missing == ("17", "18")
    assert decode(body, align=True).data.shape == (0, 0)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9])
def test_a_stream_cut_off_anywhere_is_never_an_answer(share):
    body = encode(MANY, per_batch=1)
    with pytest.raises(StoreError, match="cut off"):
        decode(body[: int(len(body) * share)])


def test_a_stream_that_ends_early_or_late_is_never_an_answer():
    with pytest.raises(StoreError, match="5 of 6 spectra"):
        decode(encode(MANY, nspec=6))
    with pytest.raises(StoreError, match="more than 2"):
        decode(encode(MANY, nspec=2))


@pytest.mark.parametrize(("align", "per_batch"), [(False, 16), (True, 16), (False, 90), (True, 90)])
def test_a_long_stream_is_decoded_by_one_thread_or_several(align, per_batch):
    sent = [spectrum(i, 35600 + i % 7, 50) for i in range(200)]
    body = encode(sent, per_batch=per_batch)
    got = decode(body, align=align)
    for row, one in zip(got.data, sent, strict=True):
        assert bits(row["flux"][one.first - 35600 :][:50] if align else row["flux"]) == bits(
            one.values["flux"]
        )
    with pytest.raises(StoreError, match="cut off or damaged"):
        decode(body[: len(body) // 2], align=align)
    body = bytearray(body)
    body[frames(bytes(body))[700] + 4] ^= 0xFF
    with pytest.raises(StoreError, match="damaged: "):
        decode(bytes(body), align=align)


def frames(body: bytes) -> list[int]:
    """Where the Blosc frames of lz4 and bit-shuffled 4-byte values begin."""
    return [at for at in range(len(body)) if body[at : at + 2] == b"\x02\x01" and body[at + 3] == 4]


@pytest.mark.parametrize(("at", "value"), [(4, 0xFF), (4, 0x01), (12, 0xFF), (12, 0x01)])
def test_a_damaged_chunk_is_refused(at, value):
    body = bytearray(encode([MANY[0]], vectors=["flux"]))
    (frame,) = frames(body)
    body[frame + at] = value
    with pytest.raises(StoreError, match="damaged: flux"):
        decode(bytes(body))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"codec": "zstd"},
        {"grid": {"kind": "spiral"}},
        {"record": None},
        {"span": [35590, 35600]},
    ],
)
def test_an_answer_of_another_form_is_refused(change):
    with pytest.raises(StoreError, match="answer of the service"):
        decode(encode(MANY, **change))


def test_a_vector_that_did_not_come_is_refused():
    others = [name for name in VECTORS if name != "sky"]
    with pytest.raises(StoreError, match="'sky' is missing"):
        decode(encode(MANY, vectors=others, record=head(MANY)["record"]))


def test_a_linear_axis_is_computed_too():
    grid = Linear(3600.0, 0.8)
    record = [
        {"name": "flux", "dtype": "<f4"},
        {"name": "wavelength", "dtype": "<f8", "unit": "Angstrom"},
    ]
    body = encode(MANY, vectors=["flux"], grid=grid.to_dict(), record=record)
    got = decode(body, align=True).data
    assert bits(got[0]["wavelength"]) == bits(grid.axis_values(35580, 70))


shapes = st.tuples(
    st.integers(34000, 34400), st.integers(0, 300), st.integers(0, 5), st.integers(0, 5)
)


@settings(max_examples=60)
@given(st.lists(shapes, max_size=9), st.integers(1, 4), st.sampled_from(["raw", "blosc"]))
def test_any_lengths_and_batches(shapes, per_batch, codec):
    sent = [
        spectrum(i, first, npix, before=before, after=after)
        for i, (first, npix, before, after) in enumerate(shapes)
    ]
    body = encode(sent, per_batch=per_batch, codec=codec)
    assert [bits(one) for one in decode(body).data] == [bits(one.values) for one in sent]
    aligned = decode(body, align=True)
    low = aligned.head.span.first
    for row, one in zip(aligned.data, sent, strict=True):
        if len(one.values):
            there = row[one.first - low : one.first - low + len(one.values)]
            assert bits(there) == bits(one.values)
        assert np.count_nonzero(row["model"]) == np.count_nonzero(one.values["model"])


def test_query_columns_keep_their_types():
    table = pa.table(
        {
            "specobjid": pa.array([2**64 - 1, 5], pa.uint64()),
            "z": pa.array([0.5, None], pa.float32()),
            "zwarning": pa.array([None, 4], pa.int32()),
            "class": pa.array(["QSO", None]).dictionary_encode(),
        }
    )
    field = table.schema.field("z").with_metadata({"unit": "km / s"})
    table = table.cast(table.schema.set(1, field))
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    got = read_columns(io.BytesIO(out.getvalue()))
    assert list(got.values) == ["specobjid", "z", "zwarning", "class"]
    assert got.values["specobjid"].tolist() == [2**64 - 1, 5]
    assert got.values["specobjid"].dtype == np.uint64
    assert got.values["z"].dtype == np.float32
    assert np.isnan(got.values["z"][1])
    assert got.values["zwarning"].mask.tolist() == [True, False]
    assert got.values["zwarning"].dtype == np.int32
    assert got.values["class"].tolist() == ["QSO", ""]
    assert got.units == {"z": "km / s"}
    with pytest.raises(StoreError, match="cut off"):
        read_columns(io.BytesIO(out.getvalue()[:300]))
