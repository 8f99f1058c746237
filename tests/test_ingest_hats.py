"""Spectra of HATS catalogues brought into a data folder: our own exports, and those of others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.table import Table

import specserver
from commands import command
from serving import serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import NoOriginal
from specserver.ingest import run_ingest
from specserver.service import QueryRequest, SpectroscopicService
from specserver.simulate import simulate_desi

pytestmark = pytest.mark.proof

UNIT = "1e-17 erg / (s cm2 Angstrom)"
TAKEN = {"id", "name", "part"}
"""Columns that every row has; those of a file with such names are called otherwise."""
WAVE = np.linspace(4000.0, 7000.0, 301)


# --- there and back ----------------------------------------------------------------------------


def there_and_back(data: Path, context: str, folder: Path) -> tuple[Path, str]:
    """Export all spectra of a release and bring them into another data folder."""
    command("export", "hats", context, folder / "hats", "--data", data, "--all", "--max-rows", 40)
    printed = command(
        *("ingest", "again", folder / "hats", "--reader", "hats", "--data", folder / "data"),
        *("--report", folder / "report"),
    )
    return folder / "data", printed


@pytest.fixture(scope="module")
def desi_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mock DESI; some spectra share an identifier."""
    folder = tmp_path_factory.mktemp("desi-data")
    simulate_desi(folder / "mock", 60, seed=5)
    run_ingest(open_root(folder / "data"), "desi_dr1", [folder / "mock"], workers=1)
    return folder / "data"


@pytest.fixture(scope="module")
def own_data(mock_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spectra on wavelengths of their own, in several media, of a survey of one's own."""
    folder = tmp_path_factory.mktemp("own-data")
    for number, medium in enumerate(("air", "vacuum", "air")):
        wave = WAVE[: 300 - number] + number / 3
        lines = ["wave,flux,ivar"] + [f"{w},{np.sin(w) + number},{1 + number}" for w in wave]
        (folder / f"{medium}-{number}.csv").write_text("\n".join(lines))
    table = "file,id,ra,dec,z,class,mag\n" + "".join(
        f"{path.name},{number + 5},{10 + number},{number},0.{number},GALAXY,2{number}.5\n"
        for number, path in enumerate(sorted(folder.glob("*.csv")))
    )
    (folder / "targets.txt").write_text(table)
    (folder / "table").mkdir()
    catalog = (folder / "targets.txt").rename(folder / "table" / "targets.csv")
    for medium in ("air", "vacuum"):
        command(
            *("ingest", "own", *sorted(folder.glob(f"{medium}-*.csv")), "--catalog", catalog),
            *("--reader", "specutils", "--data", folder / "data", "--wave-unit", "Angstrom"),
            *("--flux-unit", UNIT),
        )
    return folder / "data"


@pytest.mark.parametrize(
    ("source", "context"),
    [
        ("mock_data", "sdss_dr17"),
        ("desi_data", "desi_dr1"),
        ("own_data", "own"),
        ("real_data", "sdss_dr17"),
    ],
)
def test_spectra_come_back_as_they_were(
    source: str, context: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data: Path = request.getfixturevalue(source)
    again, _ = there_and_back(data, context, tmp_path)
    before, after = (SpectroscopicService(open_root(folder)) for folder in (data, again))
    survey = before.archive.survey(context)
    names = list(before.archive.open_release(context).catalog.columns)
    asked = QueryRequest(context=context, fields=tuple(names), primary=False)
    expected = before.query(asked)
    # Identifiers and names are those of here; SDSS has a column id with another meaning.
    there = {
        name: f"table_{name}" if name in TAKEN and context != "own" else name for name in names
    }
    asked = QueryRequest(
        context="again", fields=tuple({*there.values(), "id", "name"}), primary=False
    )
    found = after.query(asked)
    numbers, titles = found["id"], found["name"]
    found = pa.table([found[there[name]] for name in names], names=names)
    found = found.append_column("@id", numbers).append_column("@name", titles)
    keys = [(part, "ascending") for part in survey.id_form.parts]
    expected, found = expected.sort_by(keys), found.sort_by(keys)
    for name in names:
        assert found[name].type == expected[name].type, name
        assert found[name].equals(expected[name]), name
    assert found["@id"].to_pylist() == expected[survey.id_column.name].to_pylist()

    def records(
        service: SpectroscopicService, where: str, table: pa.Table, parts: tuple[str, ...]
    ) -> list[npt.NDArray[Any]]:
        rows = zip(*(table[part].to_pylist() for part in parts), strict=True)
        texts = "\n".join("(" + ",".join(map(str, row)) + ")" for row in rows)
        return list(service.read(service.resolve(texts, where)))

    one = records(before, context, expected, survey.id_form.parts)
    other = records(after, "again", found, ("@id", "@name"))
    assert len(one) == len(other) == len(expected) > 1
    for record, back in zip(one, other, strict=True):
        assert back.dtype == record.dtype
        assert back.tobytes() == record.tobytes()
    assert after.archive.survey("again").record == tuple(
        type(vector)(vector.name, vector.dtype, vector.unit, vector.meaning)
        for vector in survey.record
    )


def test_getspec_query_and_pictures_work_on_them(mock_data: Path, tmp_path: Path) -> None:
    again, printed = there_and_back(mock_data, "sdss_dr17", tmp_path)
    assert "nested spectra of a HATS catalogue" in printed
    with serve(again, tmp_path) as running:
        client = SpecClient(svc_url=running.url)
        found = client.query(constraint="class = 'QSO'", fields="id,z,medium", fmt="table")
        assert len(found) > 3
        assert set(found["medium"]) == {"vacuum"}
        aligned = client.getSpec(found["id"][:3], align=True)
        assert aligned.dtype.names[:2] == ("flux", "loglam")
        assert client.getSpec(found["id"][0], "Spectrum1D").flux.unit == UNIT
        assert client.preview(found["id"][0]) is not None
        with pytest.raises(NoOriginal, match=r"is no FITS file; fits='rebuilt'"):
            client.getSpec(found["id"][0], "fits")


def test_a_second_ingest_reads_nothing_again(mock_data: Path, tmp_path: Path) -> None:
    again, _ = there_and_back(mock_data, "sdss_dr17", tmp_path)
    words = "ingest", "again", tmp_path / "hats", "--data", again
    for more in ((), ("--reader", "hats")):
        report = json.loads(command(*words, *more, "--json").splitlines()[0])
        assert (report["read"], report["stored"]) == (0, 0)
        assert report["already_there"] == report["files"] > 1
    assert "no fault" in command("verify", "--data", again)


# --- catalogues of others ----------------------------------------------------------------------


def write_partition(
    folder: Path, columns: dict[str, Any], *, pixel: int = 3, name: str = "catalog", **more: str
) -> Path:
    """Write a catalogue of one partition, as other programs do; return its folder."""
    path = folder / name / f"dataset/Norder=1/Dir=0/Npix={pixel}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"_healpix_29": pa.array([pixel << 56] * len(next(iter(columns.values()))))})
    for column, values in columns.items():
        table = table.append_column(column, values)
    pq.write_table(table, path)
    pq.write_metadata(table.schema, path.parents[2] / "_common_metadata")
    values = {"obs_collection": "theirs", "dataproduct_type": "object", "hats_col_ra": "RA"}
    values |= {"hats_col_dec": "Dec", **more}
    text = "".join(f"{key} = {value}\n" for key, value in values.items())
    (folder / name / "hats.properties").write_text("#HATS catalog\n" + text)
    return folder / name


def lists(rows: list[Any], kind: pa.DataType) -> pa.Array:
    """Return lists of numbers."""
    return pa.array(rows, pa.list_(kind))


def multimodal(flux: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Return columns as those of the Multimodal Universe: filled up with −1, flags, text ids."""
    nrows, npix = flux.shape
    wave = np.tile(WAVE[:npix].astype(np.float32), (nrows, 1))
    wave[1:2, -20:] = -1
    ivar = np.full(flux.shape, 4, np.float32)
    ivar[0, 5] = np.nan
    mask = np.zeros(flux.shape, bool)
    mask[0, :3] = True
    spectrum = pa.StructArray.from_arrays(
        [
            lists(list(flux), pa.float32()),
            lists(list(ivar), pa.float32()),
            lists(list(np.full(flux.shape, 1.5, np.float32)), pa.float32()),
            lists(list(wave), pa.float32()),
            lists(list(mask), pa.bool_()),
        ],
        ["flux", "ivar", "lsf_sigma", "lambda", "mask"],
    )
    return {
        "spectrum": spectrum,
        "object_id": pa.array(["39627", "b' 5'", "39629"][:nrows]),
        "RA": pa.array([10.5, 11.5, 12.5][:nrows]),
        "Dec": pa.array([-1.5, 0.0, 2.5][:nrows]),
        "Z": pa.array([0.5, None, 1.5][:nrows], pa.float32()),
        "ZWARN": pa.array([True, False, None][:nrows]),
        "image": lists([[1.0]] * nrows, pa.float32()),
        "SPECTYPE": pa.array(["QSO", "STAR", "GALAXY"][:nrows]).dictionary_encode(),
    }


FLUX = np.random.default_rng(3).normal(5, 1, (3, 100)).astype(np.float32)


def ingest(folder: Path, data: Path, *more: object, code: int = 0) -> str:
    """Ingest a catalogue of others through the command."""
    words = "ingest", "theirs", folder, "--reader", "hats", "--data", data
    return command(*words, "--flux-unit", UNIT, "--report", data.with_name("report"), *more,
                   code=code)  # fmt: skip


def records_of(data: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the records of all spectra by their names."""
    service = SpectroscopicService(open_root(data))
    asked = QueryRequest(context="theirs", fields=("id", "name"), primary=False)
    found = service.query(asked).to_pylist()
    texts = "\n".join(f"({row['id']},{row['name']})" for row in found)
    read = service.read(service.resolve(texts, "theirs"))
    return {row["name"]: record for row, record in zip(found, read, strict=True)}


def test_a_catalogue_of_the_multimodal_universe(tmp_path: Path) -> None:
    folder = write_partition(tmp_path, multimodal(FLUX))
    ingest(folder, tmp_path / "data")
    found = records_of(tmp_path / "data")
    assert found.keys() == {"39627-1-3", "5-1-3", "39629-1-3"}
    first, filled = found["39627-1-3"], found["5-1-3"]
    assert first.dtype == np.dtype(
        [("flux", "<f4"), ("ivar", "<f4"), ("lsf_sigma", "<f4"), ("wavelength", "<f8"),
         ("mask", "<u4")]
    )  # fmt: skip
    assert first["flux"].tobytes() == FLUX[0].tobytes()
    assert (first["wavelength"] == WAVE[:100].astype(np.float32)).all()
    assert first["mask"].tolist() == [1, 1, 1, 0, 0, 1] + [0] * 94
    assert len(filled) == 80
    assert (filled["flux"] == FLUX[1, :80]).all()
    service = SpectroscopicService(open_root(tmp_path / "data"))
    fields = ("id", "object_id", "ra", "dec", "z", "zwarn", "spectype", "medium", "part")
    asked = QueryRequest(context="theirs", fields=fields, primary=False)
    rows = {row["object_id"]: row for row in service.query(asked).to_pylist()}
    assert rows["39627"] == {
        "id": 39627, "object_id": "39627", "ra": 10.5, "dec": -1.5, "z": 0.5, "zwarn": True,
        "spectype": "QSO", "medium": "unknown", "part": 1,
    }  # fmt: skip
    assert rows["b' 5'"]["z"] is None
    assert rows["b' 5'"]["id"] == 5
    survey = service.archive.survey("theirs")
    assert (survey.z_column, survey.class_column, survey.title) == ("z", "spectype", "theirs")
    assert (survey.mask_vector, survey.bad_bits) == ("mask", 1)


@pytest.mark.parametrize("kind", [pa.uint8(), pa.int32(), pa.uint64(), pa.int64()])
def test_any_bit_of_a_mask_marks_a_bad_pixel(kind: pa.DataType, tmp_path: Path) -> None:
    columns = multimodal(FLUX)
    flags = np.zeros(FLUX.shape, int)
    flags[:, 10:13] = (1, 100, 64)
    spectrum = columns["spectrum"]
    wave = lists([WAVE[:100]] * 3, pa.float64())
    parts = [spectrum.field("flux"), spectrum.field("ivar"), wave, lists(list(flags), kind)]
    columns["spectrum"] = pa.StructArray.from_arrays(parts, ["flux", "ivar", "wave", "mask"])
    ingest(write_partition(tmp_path, columns), tmp_path / "data")
    service = SpectroscopicService(open_root(tmp_path / "data"))
    assert records_of(tmp_path / "data")["5-1-3"]["mask"].tolist() == flags[1].tolist()
    with serve(tmp_path / "data", tmp_path) as running:
        client = SpecClient(svc_url=running.url)
        found = client.getSpec([5, 39629], "Spectrum1D", context="theirs")
        assert found[0].mask.nonzero()[0].tolist() == [10, 11, 12]
        laid = client.getSpec([5, 39629], context="theirs", align="resample")
        assert laid["mask"].any()
        assert client.stack([39627], context="theirs").flux.size
    assert service.archive.survey("theirs").mask_vector == "mask"


@pytest.mark.parametrize("form", ["list of structs", "lists", "fixed lists"])
def test_other_forms_of_nested_spectra(form: str, tmp_path: Path) -> None:
    """Wavelengths in nm and falling, errors in place of ivar, whole numbers for flags."""
    wave, error, quality = WAVE[99::-1] / 10, np.full(100, 0.5), np.arange(100)
    columns: dict[str, Any] = {
        "RA": pa.array([1.0, 2.0]),
        "Dec": pa.array([3.0, 4.0]),
        "obj": pa.array([7, 7], pa.uint64()),
    }
    flux = FLUX[:2].astype(float)
    parts = {"w": wave, "f": flux, "e": error, "mask": quality}
    nested = [
        {name: values[row] if values.ndim > 1 else values for name, values in parts.items()}
        for row in range(2)
    ]
    if form == "list of structs":
        rows = [[dict(zip(parts, cell, strict=True)) for cell in zip(*row.values(), strict=True)]
                for row in nested]  # fmt: skip
        columns["s"] = pa.array(rows)
        prefix = "s."
    else:
        prefix = ""
        for name in parts:
            kind = pa.int64() if name == "mask" else pa.float64()
            made = pa.list_(kind, 100) if form == "fixed lists" else pa.list_(kind)
            columns[name] = pa.array([row[name] for row in nested], made)
    folder = write_partition(tmp_path, columns)
    ingest(
        *(folder, tmp_path / "data", "--flux", f"{prefix}f", "--wave", f"{prefix}w"),
        *("--error", f"{prefix}e", "--wave-unit", "nm", "--id-column", "OBJ", "--medium", "air"),
    )
    found = records_of(tmp_path / "data")
    assert found.keys() == {"7-1-3", "7-1-3-2"}
    record = found["7-1-3-2"]
    np.testing.assert_allclose(record["wavelength"], WAVE[:100], rtol=1e-12)
    assert (record["flux"] == flux[1, ::-1]).all()
    assert (record["ivar"] == 4.0).all()
    assert (record["mask"] == quality[::-1]).all()
    service = SpectroscopicService(open_root(tmp_path / "data"))
    asked = QueryRequest(context="theirs", fields=("id", "name", "medium", "is_best"))
    assert service.query(asked).to_pylist() == [
        {"id": 7, "name": "7-1-3", "medium": "air", "is_best": 1}
    ]
    assert service.archive.survey("theirs").id_column.dtype == "<u8"


def test_rows_without_an_identifier_are_named_by_their_place(tmp_path: Path) -> None:
    columns = multimodal(FLUX)
    del columns["object_id"]
    ingest(write_partition(tmp_path, columns), tmp_path / "data")
    assert records_of(tmp_path / "data").keys() == {"1-3-1", "1-3-2", "1-3-3"}


def test_margins_and_files_beside_are_no_spectra(tmp_path: Path) -> None:
    """A folder with a catalogue, its margin and what describes them; a partition as a folder."""
    folder = write_partition(tmp_path, multimodal(FLUX))
    margin = {"dataproduct_type": "margin"}
    write_partition(tmp_path, multimodal(FLUX[:1]), pixel=4, name="margin", **margin)
    pq.write_table(pa.table({"a": [1]}), folder / "data_thumbnail.parquet")
    (folder / "dataset" / "Norder=1" / "Dir=0" / "Npix=5").mkdir()
    inside = folder / "dataset/Norder=1/Dir=0/Npix=5/part0.parquet"
    columns = multimodal(FLUX[:1] + 1)
    columns["object_id"] = pa.array(["77"])
    table = pa.table({"_healpix_29": pa.array([5 << 56]), **columns})
    pq.write_table(table, inside)
    printed = ingest(tmp_path, tmp_path / "data")
    assert "stored         4 spectra" in printed
    notes = [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]
    assert [(note["became"], Path(note["path"]).name) for note in notes] == [
        ("passed over", "Npix=4.parquet")
    ]
    names = {"39627-1-3", "5-1-3", "39629-1-3", "77-1-5-part0"}
    assert records_of(tmp_path / "data").keys() == names


# --- rows and files that are refused -----------------------------------------------------------


def test_single_rows_are_refused_and_the_others_stored(tmp_path: Path) -> None:
    wave = WAVE[:100].tolist()
    zigzag = [*wave[:50], *wave[40:90]]
    flux = [row.tolist() for row in np.random.default_rng(1).normal(5, 1, (7, 100))]
    waves = [wave, zigzag, wave[:99], wave, [], [-1.0] * 100, wave]
    flux[4] = []
    spectra: list[Any] = [
        {"wave": w, "flux": f, "mask": [0] * len(f)} for w, f in zip(waves, flux, strict=True)
    ]
    spectra[3]["mask"][7] = None
    spectra.append(None)
    spectra[6]["flux"][9] = None
    columns = {
        "s": pa.array(spectra),
        "id": pa.array([1, 2, 3, 4, 5, 6, 7, 8]),
        "RA": pa.array([1.0] * 8),
        "Dec": pa.array([2.0] * 8),
    }
    printed = ingest(write_partition(tmp_path, columns), tmp_path / "data")
    assert "stored         2 spectra" in printed
    found = records_of(tmp_path / "data")
    assert found.keys() == {"1-1-3", "7-1-3"}
    # A missing number with a fraction is NaN.
    assert np.isnan(found["7-1-3"]["flux"][9])
    assert np.isfinite(found["7-1-3"]["flux"]).sum() == 99
    notes = [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]
    assert {note["became"] for note in notes} == {"refused"}
    reasons = {number: note["reason"] for note in notes for number in note["ids"]}
    assert "pixels 49 and 50 of 100" in reasons["2"]
    assert "lists of several lengths" in reasons["3"]
    assert "no value at some pixels" in reasons["4"]
    assert reasons["5"] == reasons["8"] == "2 of its spectra: its spectrum has no pixels"
    assert "it has no wavelengths" in reasons["6"]
    command("ingest", "theirs", tmp_path / "catalog", "--data", tmp_path / "data", "--replace",
            "--strict")  # fmt: skip


@pytest.mark.parametrize(
    ("change", "more", "reason"),
    [
        ({"spectrum": None}, (), "it has no lists of wavelengths and flux"),
        ({}, ("--flux", "nope", "--wave", "lambda"), "of these names"),
        ({}, ("--id-column", "nope"), "id-column"),
        ({"RA": None}, (), "it has no column RA"),
        ({}, ("--catalog", "x.csv"), "not with --reader hats"),
        ({}, ("--flux-unit", "furlong"), "flux-unit"),
        ({}, ("--file-column", "Z"), "not with --reader hats"),
    ],
)
def test_what_cannot_be_ingested_is_said(
    change: dict[str, Any], more: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    columns = {name: values for name, values in multimodal(FLUX).items() if name not in change}
    folder = write_partition(tmp_path, columns)
    (tmp_path / "x.csv").write_text("id\n1\n")
    words = [str(tmp_path / word) if word == "x.csv" else word for word in more]
    code = 1 if change or "nope" in more[1:2] else 2
    code = 2 if "--id-column" in more else code
    assert reason in ingest(folder, tmp_path / "data", *words, code=code)


def test_a_unit_that_no_one_states_is_asked_for(tmp_path: Path) -> None:
    folder = write_partition(tmp_path, multimodal(FLUX))
    words = "ingest", "theirs", folder, "--reader", "hats", "--data", tmp_path / "data"
    assert "say --flux-unit" in command(*words, code=2)


def test_a_folder_without_partitions(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "some" / "table.parquet")
    printed = ingest(tmp_path / "some", tmp_path / "data", code=1)
    assert "a partition is .../Norder=K/Dir=D/Npix=N.parquet" in printed


def test_files_that_differ_from_the_first_are_refused(tmp_path: Path) -> None:
    """One that is cut off, and one without a column."""
    folder = write_partition(tmp_path, multimodal(FLUX))
    columns = multimodal(FLUX + 1)
    columns["object_id"] = pa.array(["1", "2", "3"])
    write_partition(tmp_path, columns, pixel=6)
    cut = folder / "dataset/Norder=1/Dir=0/Npix=6.parquet"
    cut.write_bytes(cut.read_bytes()[:-100])
    del columns["Z"]
    write_partition(tmp_path, columns, pixel=7)
    ingest(folder, tmp_path / "data")
    assert len(records_of(tmp_path / "data")) == 3
    notes = [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]
    reasons = {Path(note["path"]).name: note["reason"] for note in notes}
    assert "cannot be read" in reasons["Npix=6.parquet"]
    assert "it has no column Z, which the first" in reasons["Npix=7.parquet"]


def with_list(columns: dict[str, Any], name: str, made: pa.Array | None, unit: str = "") -> None:
    """Replace a list of the spectra, or what it says of its unit; None: leave it out."""
    spectrum: pa.StructArray = columns["spectrum"]
    parts = {field.name: field for field in spectrum.type}
    values = {part: spectrum.field(part) for part in parts}
    if made is None:
        del values[name], parts[name]
    else:
        values[name] = made
        about = {b"unit": unit.encode()} if unit else {}
        parts[name] = pa.field(name, made.type, metadata=about)
    columns["spectrum"] = pa.StructArray.from_arrays(
        list(values.values()), fields=list(parts.values())
    )


def described(columns: dict[str, Any], name: str, unit: str) -> None:
    """Say in which unit a list of the spectra is."""
    with_list(columns, name, columns["spectrum"].field(name), unit)


def numbers_of(columns: dict[str, Any], name: str, kind: pa.DataType) -> pa.Array:
    """Return a list of the spectra in another type."""
    return columns["spectrum"].field(name).cast(pa.list_(kind))


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unit of flux": (lambda c: described(c, "flux", "mJy"), "flux is in 'mJy', and not in 'Jy'"),
    "no unit of flux": (lambda c: described(c, "flux", ""), "flux is in 'no unit'"),
    "wavelengths": (lambda c: described(c, "lambda", "nm"), "'nm', and not in 'Angstrom'"),
    "unit of ivar": (lambda c: described(c, "ivar", "mJy-2"), "'mJy-2', and not in 'Jy-2'"),
    "unit of another list": (lambda c: described(c, "lsf_sigma", "km/s"), "is in 'km/s'"),
    "wide flux": (
        lambda c: with_list(c, "flux", numbers_of(c, "flux", pa.float64()), "Jy"),
        "list spectrum.flux is of type double, and is not stored as float32",
    ),
    "numbers for flags": (
        lambda c: with_list(c, "mask", numbers_of(c, "mask", pa.uint32())),
        "list spectrum.mask is of type uint32",
    ),
    "no list": (lambda c: with_list(c, "ivar", None), "no list of numbers spectrum.ivar"),
    "a number": (
        lambda c: with_list(c, "ivar", pa.array([1.0, 2.0, 3.0])),
        "no list of numbers spectrum.ivar",
    ),
    "wide column": (
        lambda c: c.update(Z=pa.array([0.1, 0.2, 0.3])),
        "column Z is of type double, and not float32",
    ),
    "number for text": (lambda c: c.update(SPECTYPE=pa.array([1, 2, 3])), "column SPECTYPE"),
    "text for number": (lambda c: c.update(Z=pa.array(["a", "b", "c"])), "column Z is of type"),
    "identifiers": (lambda c: c.update(object_id=pa.array([1.0, 2.0, 3.0])), "object_id is of"),
    "positions": (lambda c: c.update(RA=pa.array([True, False, True])), "column RA is of type"),
}


SAME: dict[str, Callable[[dict[str, Any]], object]] = {
    "nothing": lambda _: None,
    "spelling of a unit": lambda c: described(c, "lambda", "AA"),
    "no value at all": lambda c: c.update(Z=pa.nulls(3)),
    "wide wavelengths": lambda c: with_list(
        c, "lambda", numbers_of(c, "lambda", pa.float64()), "Angstrom"
    ),
    "narrow positions": lambda c: c.update(RA=c["RA"].cast(pa.float32())),
    "large texts": lambda c: c.update(SPECTYPE=pa.array(["QSO"] * 3, pa.large_string())),
}


def test_files_of_other_types_and_units_than_the_first_are_refused(tmp_path: Path) -> None:
    """What would be stored as another value or in another unit is; what is the same is stored."""
    changes = [lambda _: None, *SAME.values(), *(change for change, _ in CHANGES.values())]
    for pixel, change in enumerate(changes):
        columns = multimodal(FLUX + pixel)
        described(columns, "lambda", "Angstrom")
        described(columns, "ivar", "Jy-2")
        described(columns, "flux", "Jy")
        change(columns)
        folder = write_partition(tmp_path, columns, pixel=pixel)
    words = "ingest", "theirs", folder, "--reader", "hats", "--data", tmp_path / "data"
    command(*words, "--report", tmp_path / "report", "--workers", 1)
    stored = {int(name.split("-")[2]) for name in records_of(tmp_path / "data")}
    assert stored == set(range(len(SAME) + 1))
    notes = [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]
    reasons = {Path(note["path"]).stem: note["reason"] for note in notes}
    assert len(reasons) == len(notes) == len(CHANGES)
    for pixel, (what, (_, reason)) in enumerate(CHANGES.items(), len(SAME) + 1):
        assert reason in reasons[f"Npix={pixel}"], what
        assert "ingest it into a context of its own" in reasons[f"Npix={pixel}"], what


def test_masks_that_the_first_file_has_not_are_refused(tmp_path: Path) -> None:
    for pixel in (3, 6):
        columns = multimodal(FLUX + pixel)
        if pixel == 3:
            with_list(columns, "mask", None)
        folder = write_partition(tmp_path, columns, pixel=pixel)
    assert "stored         3 spectra" in ingest(folder, tmp_path / "data", "--workers", 1)
    assert "it has a list spectrum.mask, which" in (tmp_path / "report").read_text()


def test_a_unit_that_the_operator_gives_is_that_of_files_without_one(tmp_path: Path) -> None:
    for pixel, unit in ((3, ""), (5, UNIT), (6, "Jy")):
        columns = multimodal(FLUX + pixel)
        described(columns, "flux", unit)
        folder = write_partition(tmp_path, columns, pixel=pixel)
    ingest(folder, tmp_path / "data", "--workers", 1)
    report = (tmp_path / "report").read_text()
    assert "Npix=6" in report
    assert "Npix=5" not in report
    assert len(records_of(tmp_path / "data")) == 6


def test_exports_in_several_units_are_not_mixed(tmp_path: Path) -> None:
    """Each is exported by itself, and they are brought into one context, or into two."""
    for number, unit in enumerate(("Jy", "mJy"), 1):
        folder = tmp_path / unit
        (folder / "files").mkdir(parents=True)
        table = Table({"wave": WAVE * u.AA, "flux": np.full(len(WAVE), 2.0) * u.Unit(unit)})
        table.write(folder / "files" / "a.ecsv")
        (folder / "targets.csv").write_text(f"id,file,ra,dec\n{number},a,{number * 90},0\n")
        words = "ingest", "own", folder / "files", "--reader", "specutils"
        command(*words, "--catalog", folder / "targets.csv", "--data", folder / "data")
        command("export", "hats", "own", folder / "hats", "--data", folder / "data")
    words = "ingest", "theirs", "--reader", "hats", "--data", tmp_path / "data"
    command(*words, tmp_path / "Jy" / "hats", tmp_path / "mJy" / "hats", "--report",
            tmp_path / "report")  # fmt: skip
    assert len(records_of(tmp_path / "data")) == 1
    report = (tmp_path / "report").read_text()
    assert "and not flux of type float64 in 'Jy'" in report
    assert "ingest it into a context of its own" in report


def test_an_export_and_another_catalogue_are_not_mixed(mock_data: Path, tmp_path: Path) -> None:
    again, _ = there_and_back(mock_data, "sdss_dr17", tmp_path)
    path = next((tmp_path / "hats" / "sdss_dr17").rglob("Npix=*.parquet"))
    table = pq.ParquetFile(path).read()
    for name, schema, reason in (
        ("plain", table.schema.remove_metadata(), "it does not describe its spectra"),
        (
            "other",
            table.schema.with_metadata(
                {
                    key: value.replace(b'"bad_bits": ', b'"bad_bits": 1')
                    for key, value in table.schema.metadata.items()
                }
            ),
            "its bad bits is 1",
        ),
    ):
        other = tmp_path / name / "dataset/Norder=1/Dir=0/Npix=3.parquet"
        other.parent.mkdir(parents=True)
        pq.write_table(table.cast(schema), other)
        words = "ingest", "again", tmp_path / name, "--reader", "hats", "--data", again
        command(*words, "--report", tmp_path / "report")
        assert reason in (tmp_path / "report").read_text()


def test_spectra_of_an_object_in_several_partitions_are_all_stored(tmp_path: Path) -> None:
    """Of an identifier of digits, and of one that is a text."""
    for pixel in (3, 6):
        columns = multimodal(FLUX + pixel)
        columns["object_id"] = pa.array(["77", "an_object", "77"])
        folder = write_partition(tmp_path, columns, pixel=pixel)
    ingest(folder, tmp_path / "data")
    found = records_of(tmp_path / "data")
    assert found.keys() == {
        f"{name}-1-{pixel}{again}"
        for pixel in (3, 6)
        for name, again in (("77", ""), ("77", "-2"), ("an_object", ""))
    }
    service = SpectroscopicService(open_root(tmp_path / "data"))
    best = service.query(QueryRequest(context="theirs", fields=("id", "object_id"))).to_pylist()
    assert len(best) == len({row["id"] for row in best}) == 2
    assert {row["object_id"] for row in best} == {"77", "an_object"}
    printed = ingest(folder, tmp_path / "data", "--replace", "--json")
    report = json.loads(printed.splitlines()[0])
    assert (report["stored"], report["already_there"]) == (0, 2)
    assert len(records_of(tmp_path / "data")) == 6


def test_files_of_one_partition_name_their_rows_apart(tmp_path: Path) -> None:
    folder = tmp_path / "dataset/Norder=1/Dir=0/Npix=5"
    folder.mkdir(parents=True)
    for number in (0, 1):
        columns = multimodal(FLUX + number)
        del columns["object_id"]
        pq.write_table(pa.table(columns), folder / f"part{number}.parquet")
    ingest(tmp_path, tmp_path / "data")
    names = {f"1-5-part{number}-{row}" for number in (0, 1) for row in (1, 2, 3)}
    assert records_of(tmp_path / "data").keys() == names


def test_columns_that_differ_from_those_of_stored_spectra_are_refused(tmp_path: Path) -> None:
    columns = multimodal(FLUX) | {"Z2": pa.array([0.1, 0.2, 0.3]), "N": pa.array([1, 2, 3])}
    folder = write_partition(tmp_path, columns)
    ingest(folder, tmp_path / "data", "--z-column", "Z2")
    for option, name, before in (
        ("--z-column", "Z", "Z2"),
        ("--id-column", "N", "object_id"),
        ("--ra-column", "Dec", "RA"),
        ("--dec-column", "RA", "Dec"),
    ):
        printed = ingest(folder, tmp_path / "data", option, name, code=2)
        assert f"are stored with '{before}'" in printed
    ingest(folder, tmp_path / "data", "--z-column", "z2", "--id-column", "OBJECT_ID",
           "--ra-column", "ra", "--title", "Another title")  # fmt: skip
    survey = SpectroscopicService(open_root(tmp_path / "data")).archive.survey("theirs")
    assert (survey.title, survey.z_column) == ("Another title", "z2")


def test_columns_of_an_export_are_those_that_it_says(mock_data: Path, tmp_path: Path) -> None:
    there_and_back(mock_data, "sdss_dr17", tmp_path)
    words = "ingest", "other", tmp_path / "hats", "--reader", "hats", "--data", tmp_path / "data"
    assert "as the export says" in command(*words, "--ra-column", "plug_ra", code=2)
    assert "as the export says" in command(*words, "--z-column", "l", code=2)
    command(*words, "--ra-column", "RA", "--z-column", "Z")


def test_lists_have_no_names_of_coordinates(tmp_path: Path) -> None:
    columns = multimodal(FLUX)
    names = "first", "count", "spectrum", "pixel", "id"
    for name in names:
        with_list(columns, name, columns["spectrum"].field("lsf_sigma"))
    columns["nested"] = columns.pop("spectrum")
    columns |= {name: pa.array([1, 2, 3]) for name in names}
    ingest(write_partition(tmp_path, columns), tmp_path / "data", "--id-column", "object_id")
    found = specserver.open(tmp_path / "data").to_xarray("theirs", off_lattice=True)
    assert {f"table_{name}" for name in names} <= set(found.data_vars)
    assert sorted(found["id"].to_numpy()) == [5, 39627, 39629]
    assert sorted(found["count"].to_numpy()) == [80, 100, 100]


def test_stored_spectra_keep_their_options(tmp_path: Path) -> None:
    folder = write_partition(tmp_path, multimodal(FLUX))
    ingest(folder, tmp_path / "data")
    assert "are stored with" in ingest(folder, tmp_path / "data", "--medium", "air", code=2)
    words = "ingest", "theirs", folder, "--reader", "specutils", "--data", tmp_path / "data"
    assert "say --reader hats" in command(*words, code=2)


def test_a_damaged_declaration_is_said_to_be_damaged(tmp_path: Path) -> None:
    folder = write_partition(tmp_path, multimodal(FLUX))
    ingest(folder, tmp_path / "data")
    declared = next((tmp_path / "data" / "theirs").glob("*.json"))
    values = json.loads(declared.read_text())
    assert json.loads(values["nested"])["spectra"]["mask_vector"] == "mask"
    values["nested"] = values["nested"].replace("mask_vector", "mask_victor")
    values.pop("digest", None)
    declared.write_text(json.dumps(values))
    printed = command("info", "--data", tmp_path / "data", code=1)
    assert "survey.json: damaged (" in printed
