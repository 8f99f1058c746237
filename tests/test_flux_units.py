"""Spectra of one context in several units of flux: each keeps its own, and none is mixed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
import urllib3
from astropy import units as u
from astropy.io import fits
from astropy.table import Table

import specserver
from commands import command
from serving import Served, serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import BadParameter
from specserver.surveys import find_release
from specserver.surveys.generic import read_declaration, write_declaration

WAVE = np.linspace(4000.0, 7000.0, 301)
FLAM = u.Unit("1e-17 erg / (s cm2 Angstrom)")
FLUX = 5 + np.sin(WAVE / 50)
ODD = "_NGC 1068 β"
"""A name with what names of users' files have, and those of surveys do not."""
UNITS = {"a": FLAM, "b": u.mJy, ODD: FLAM, "d": u.dimensionless_unscaled}


def write(path: Path, unit: u.UnitBase | None) -> None:
    """Write a spectrum as a table; None: its flux states no unit."""
    columns = {"wave": WAVE * u.AA, "flux": FLUX, "error": np.full(len(WAVE), 0.5)}
    if unit is not None:
        columns |= {name: columns[name] * unit for name in ("flux", "error")}
    Table(columns).write(path, overwrite=True)


@pytest.fixture(scope="module")
def served_units(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service over four spectra in three units, one of which the operator states."""
    folder = tmp_path_factory.mktemp("units") / "spectra"
    folder.mkdir()
    for name, unit in UNITS.items():
        write(folder / f"{name}.fits", None if unit == u.dimensionless_unscaled else unit)
    given = ("ingest", "mine", folder, "--data", folder.parent / "data", "--workers", 1)
    printed = " ".join(command(*given, "--reader", "specutils").split())
    assert "it states no unit of flux" in printed
    assert "--flux-unit ''" in printed
    printed = command(*given, "--reader", "specutils", "--flux-unit", "")
    assert "1 spectra in 1 segments" in printed
    printed = " ".join(
        command(*given, "--reader", "specutils", "--flux-unit", "Jy", code=2).split()
    )
    assert "stored with ''" in printed
    with serve(folder.parent / "data", folder) as running:
        yield running


@pytest.fixture
def client(served_units: Served) -> SpecClient:
    return SpecClient("mine", svc_url=served_units.url)


@pytest.fixture
def ids(client: SpecClient) -> dict[str, int]:
    """Identifier of each spectrum by its name."""
    rows = client.query(constraint="name != ''", fields="name,id")
    return {row["name"]: int(row["id"]) for row in rows}


def test_each_spectrum_has_its_own_unit_in_every_form(
    client: SpecClient, ids: dict[str, int]
) -> None:
    asked = [ids[name] for name in UNITS]
    for one, unit in zip(client.getSpec(asked), UNITS.values(), strict=True):
        assert one["flux"].tobytes() == FLUX.tobytes()
        assert u.Unit(one.about.flux_unit) == unit
        assert u.Unit(one.about.units.get("ivar", "")) == unit**-2
    for fmt in ("Table", "Spectrum1D", "pandas"):
        for one, unit in zip(client.getSpec(asked, fmt=fmt), UNITS.values(), strict=True):
            if fmt == "Table":
                found = one["flux"].unit or u.dimensionless_unscaled, one["ivar"].unit
                assert found == (unit, unit**-2 if unit.bases else one["ivar"].unit)
            elif fmt == "Spectrum1D":
                assert one.flux.unit == unit
                assert one.uncertainty.unit == unit**-2
            else:
                assert u.Unit(one.attrs["units"].get("flux", "")) == unit
    assert client.getSpec(ids["b"], fmt="Spectrum1D").flux.unit == u.mJy


def test_the_catalogue_states_the_unit(client: SpecClient) -> None:
    rows = client.query(constraint="name != ''", fields="name,flux_unit")
    assert {row["name"]: u.Unit(row["flux_unit"]) for row in rows} == UNITS
    assert len(client.query(constraint="flux_unit = 'mJy'")) == 1


def test_files_state_the_unit(client: SpecClient, ids: dict[str, int], tmp_path: Path) -> None:
    client.getSpec([ids["a"], ids["b"]], fmt="FITS", fits="rebuilt", out=tmp_path)
    for name in ("a", "b"):
        (path,) = tmp_path.glob(f"{name}*.fits")
        with fits.open(path) as hdus:
            assert u.Unit(hdus[1].columns["flux"].unit) == UNITS[name]
            assert u.Unit(hdus[1].columns["ivar"].unit) == UNITS[name] ** -2


def test_files_of_any_name_are_written(
    served_units: Served, client: SpecClient, ids: dict[str, int], tmp_path: Path
) -> None:
    for fmt, ending in (("Table", ".ecsv"), ("pandas", ".csv"), ("FITS", ".fits")):
        client.getSpec([ids[ODD]], fmt=fmt, out=tmp_path / fmt)
        assert [path.name for path in (tmp_path / fmt).iterdir()] == [ODD + ending]
    client.getSpec([ids[ODD]], fmt="FITS", fits="rebuilt", out=tmp_path / "rebuilt")
    (path,) = (tmp_path / "rebuilt").iterdir()
    assert fits.getheader(path)["NAME"] == "_NGC 1068 ?"
    fields = {"id_list": str(ids[ODD]), "context": "mine", "format": "FITS"}
    url = f"{served_units.url}/getSpec"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = urllib3.request("POST", url, body=urlencode(fields), headers=form, retries=False)
    assert (answer.status, answer.headers["Content-Disposition"]) == (
        200, "attachment; filename*=UTF-8''_NGC%201068%20%CE%B2.fits"
    )  # fmt: skip


def test_units_are_never_mixed_in_one_array(client: SpecClient, ids: dict[str, int]) -> None:
    pair = [ids["a"], ids["b"]]
    for call in (
        lambda: client.getSpec(pair, align="resample"),
        lambda: client.stack(pair, frame="observed"),
        lambda: client.stackedImage(pair, align=False),
    ):
        with pytest.raises(BadParameter, match=r"^the fluxes are in .*, mJy in mine: "):
            call()
    spectra = client.getSpec(pair)
    for call in (lambda: spectra["flux"], lambda: spectra["ivar"], lambda: np.array(spectra)):
        with pytest.raises(BadParameter, match=r"in several units.*mJy.*\[spectrum\['flux'\] for"):
            call()
    assert spectra["wavelength"].shape == (2, len(WAVE))
    assert spectra[:1]["flux"].shape == (1, len(WAVE))
    alone = [ids["a"], ids[ODD]]
    assert client.getSpec(alone)["flux"].tobytes() == FLUX.tobytes() * 2
    laid = client.getSpec(alone, align="resample")
    assert u.Unit(laid.about.flux_unit) == FLAM
    assert u.Unit(client.stack(alone, frame="observed").unit) == FLAM
    assert client.stack(pair, frame="observed", norm=(5000, 6000)).unit == ""


def test_pictures_state_the_unit(client: SpecClient, ids: dict[str, int], tmp_path: Path) -> None:
    grid = client.plotGrid([ids["a"], ids["b"], ids["d"]], 3, 1)
    (tmp_path / "grid.png").write_bytes(bytes(grid))
    client.prospect([ids["a"], ids["b"]], out=tmp_path / "v.html")
    assert "mJy" in (tmp_path / "v.html").read_text()
    with pytest.raises(BadParameter, match="units do not compare"):
        client.plot([ids["a"], ids["b"]], out=tmp_path / "p.png")
    with pytest.raises(BadParameter, match="units do not compare"):
        client.prospect([ids["a"], ids["b"]], out=tmp_path / "p.html", overplot=True)


def test_a_data_folder_in_process_has_one_unit(served_units: Served) -> None:
    folder = specserver.open(served_units.data)
    with pytest.raises(BadParameter, match="constraint=\"flux_unit = ''\""):
        folder.to_xarray("mine", off_lattice=True)
    some = folder.to_xarray("mine", off_lattice=True, constraint="flux_unit = 'mJy'")
    assert (some.attrs["flux_unit"], some["flux"].attrs["units"]) == ("mJy", "mJy")
    assert some["ivar"].attrs["units"] == "1 / mJy2"


def test_a_column_of_an_older_table_is_no_unit(tmp_path: Path) -> None:
    """An older version stored a table's own column under the name that is the unit's now."""
    folder, data = tmp_path / "spectra", tmp_path / "data"
    folder.mkdir()
    write(folder / "1.fits", FLAM)
    (folder / "t.csv").write_text("id,flux_unit\n1,furlongs\n")
    given = ("ingest", "mine", folder, "--data", data, "--workers", 1)
    command(*given, "--reader", "specutils", "--catalog", folder / "t.csv")
    root = open_root(data)
    declared = read_declaration(root, "mine")
    assert declared is not None
    assert [column.name for column in declared.columns] == ["table_flux_unit"]
    older = replace(declared, columns=(replace(declared.columns[0], name="flux_unit"),))
    write_declaration(root, older)
    survey, _ = find_release("mine", root)
    assert survey.in_unit is None
    write(folder / "2.fits", u.mJy)
    (folder / "t.csv").write_text("id,flux_unit\n1,furlongs\n2,mJy\n")
    printed = " ".join(command(*given).split())
    assert "flux is in mJy" in printed
    printed = command(*given, "--reader", "specutils", "--catalog", folder / "t.csv", code=2)
    assert "older version" in printed
