"""Line table and air ↔ vacuum conversion."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specserver.model.lines import (
    ABSORPTION_LINES,
    AIR_FROM_AA,
    EMISSION_LINES,
    SKY_LINES,
    air_to_vacuum,
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
