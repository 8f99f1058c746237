"""Line table and air ↔ vacuum conversion, in Å and with units."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Column
from hypothesis import given
from hypothesis import strategies as st
from specutils.utils.wcs_utils import air_to_vac, vac_to_air

from specserver import specClient
from specserver.errors import BadParameter
from specserver.model.lines import (
    ABSORPTION_LINES,
    AIR_FROM_AA,
    EMISSION_LINES,
    SKY_LINES,
    air_to_vacuum,
    lines_of,
    vacuum_to_air,
)


@pytest.mark.parametrize(
    ("name", "air_aa"), [("Hα", 6562.80), ("Hβ", 4861.325), ("Na D1", 5895.924), ("Ca K", 3933.663)]
)
def test_table_agrees_with_laboratory_wavelengths_in_air(name, air_aa):
    line = next(one for one in EMISSION_LINES + ABSORPTION_LINES if one.name == name)
    assert float(vacuum_to_air(line.wave_aa)) == pytest.approx(air_aa, abs=0.02)


def test_oxygen_line_of_the_night_sky():
    assert float(air_to_vacuum(5577.338)) == pytest.approx(SKY_LINES[0].wave_aa, abs=0.007)


@given(st.floats(2001.0, 30000.0))
def test_round_trip_from_vacuum(wave_aa):
    assert float(air_to_vacuum(vacuum_to_air(wave_aa))) == pytest.approx(wave_aa, abs=1e-9)


@given(st.floats(500.0, 1999.9))
def test_below_2000_nothing_changes(wave_aa):
    assert float(air_to_vacuum(wave_aa)) == wave_aa
    assert float(vacuum_to_air(wave_aa)) == wave_aa


@given(st.floats(AIR_FROM_AA, 30000.0))
def test_air_is_shorter_by_about_three_parts_in_ten_thousand(wave_aa):
    assert 2.7e-4 < float(air_to_vacuum(wave_aa)) / wave_aa - 1.0 < 3.3e-4


def test_arrays_keep_their_shape():
    wave = np.linspace(1500.0, 9000.0, 12).reshape(3, 4)
    assert air_to_vacuum(wave).shape == (3, 4)
    assert vacuum_to_air(wave).dtype == np.float64


@pytest.mark.parametrize("table", [EMISSION_LINES, ABSORPTION_LINES, SKY_LINES])
def test_tables_ascend(table):
    waves = [line.wave_aa for line in table]
    assert waves == sorted(waves)


def test_the_conversion_is_that_of_ciddor():
    wave = np.linspace(2001.0, 17000.0, 3000)
    theirs = vac_to_air(wave * u.AA, method="Ciddor1996").value
    assert np.abs(vacuum_to_air(wave) - theirs).max() < 1e-9
    theirs = air_to_vac(wave * u.AA, method="Ciddor1996").value  # refraction at the air wavelength
    assert np.abs(air_to_vacuum(wave) - theirs).max() < 1e-4
    exact = air_to_vac(wave * u.AA, method="Ciddor1996", scheme="iteration").value
    assert np.abs(air_to_vacuum(wave) - exact).max() < 1e-6


def test_quantities_come_back_in_their_unit():
    one = specClient.airtovac(500 * u.nm)
    assert one.unit == u.nm
    assert one.value == pytest.approx(500.139, abs=5e-4)
    assert specClient.vactoair(one).value == pytest.approx(500, abs=1e-10)
    several = specClient.airtovac(np.array([[0.5, 1.0]]) * u.um)
    assert several.shape == (1, 2)
    assert several.to_value(u.AA) == pytest.approx(air_to_vacuum(np.array([[5000.0, 10000.0]])))
    # 150 nm are below 2000 Å, where wavelengths are published in vacuum.
    assert specClient.airtovac(150 * u.nm) == 150 * u.nm
    assert specClient.airtovac(Column([500.0], unit="nm")).value == pytest.approx(
        [500.1394], abs=1e-4
    )
    assert specClient.airtovac(Column([5000.0])) == pytest.approx([5001.394], abs=1e-3)
    for convert in (specClient.airtovac, specClient.vactoair):
        with pytest.raises(BadParameter, match="length"):
            convert(5 * u.Hz)


def test_a_bare_number_is_of_angstrom_and_stays_below_2000():
    for convert in (specClient.airtovac, specClient.vactoair):
        assert convert(500.0) == 500.0
        assert convert([500, 1999.0]).tolist() == [500.0, 1999.0]
    assert "2000" in specClient.airtovac.__doc__


def test_a_galaxy_has_the_lines_that_are_usual_in_its_subclass():
    plain, forming, agn = (
        {line.name for line in lines_of("GALAXY", subclass)}
        for subclass in ("", "STARFORMING", "AGN BROADLINE")
    )
    assert {"[O II]", "Hβ", "[O III]", "Hα", "[N II]", "[S II]", "Ca K", "Mg b"} <= plain
    assert not plain & {"[Ne V]", "He II", "[S III]", "[Ar III]", "He I", "Hε"}
    assert not (plain | forming) & {"Lyα", "C IV", "C III]", "Mg II"}
    assert "Mg II" in agn
    assert forming - plain >= {"Hγ", "Hδ", "[Ne III]", "He I"}
    assert "[Ne V]" not in forming
    assert agn - forming >= {"[Ne V]", "He II"}
    assert not any(5413 < line.wave_aa < 5414 for line in lines_of("QSO", "BROADLINE"))
    unclassified = lines_of("")
    assert not any(line.name == "[Ar III]" or 5413 < line.wave_aa < 5414 for line in unclassified)
    assert set(ABSORPTION_LINES) <= set(unclassified)
