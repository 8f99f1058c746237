"""Conversions keep the bits, and say what the numbers mean."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import InverseVariance
from specutils import Spectrum

from specserver.client.results.convert import convert, to_pandas, to_Spectrum1D, to_Table
from specserver.client.results.decode import Spectra
from specserver.errors import BadParameter
from specserver.model.grid import LogLinear, PixelRange
from specserver.model.survey import Vector
from specserver.wire.head import StreamHead

FLUX = u.Unit("1e-17 erg / (s cm2 Angstrom)")
GRID = LogLinear(1e-4)
FIRST, NPIX = 35600, 50
RECORD = (
    Vector("flux", "<f4", "1e-17 erg / (s cm2 Angstrom)", ""),
    Vector("loglam", "<f4", "dex(Angstrom)", ""),
    Vector("ivar", "<f4", "1e34 s2 cm4 Angstrom2 / erg2", ""),
    Vector("and_mask", "<i4", "", ""),
    Vector("wdisp", "<f4", "pix", ""),
    Vector("sky", "<f4", "1e-17 erg / (s cm2 Angstrom)", ""),
)
DTYPE = np.dtype([(one.name, one.dtype) for one in RECORD])


def spectrum(seed: int, npix: int = NPIX) -> np.ndarray:
    """A spectrum like a real one: two pixels without information, one with a mask bit."""
    rng = np.random.default_rng(seed)
    out = np.zeros(npix, dtype=DTYPE)
    for name in ("flux", "ivar", "wdisp", "sky"):
        out[name] = rng.gamma(3.0, size=npix)
    out["loglam"] = GRID.axis_values(FIRST, npix)
    out["ivar"][3:5] = 0
    out["and_mask"][7] = 1 << 24
    return out


def answer(data, *, bad_bits=0, on_lattice=True, z=(0.25, np.nan)) -> Spectra:
    """A decoded answer with these spectra."""
    head = StreamHead(
        context="sdss_dr17",
        survey="sdss",
        grid=GRID,
        record=RECORD,
        codec="blosc",
        nspec=len(data),
        span=PixelRange(FIRST, FIRST + NPIX),
        missing=(),
        flux_unit="1e-17 erg / (s cm2 Angstrom)",
        mask_vector="and_mask",
        bad_bits=bad_bits,
        id_column="specobjid",
    )
    return Spectra(
        head=head,
        data=data,
        ids=np.arange(len(data), dtype=np.uint64) + np.uint64(2**63),
        contexts=["sdss_dr16"] * len(data),
        first=np.full(len(data), FIRST),
        on_lattice=np.full(len(data), on_lattice),
        columns={"@redshift": np.array(z[: len(data)], dtype=np.float32)},
    )


def test_a_dataframe_has_the_vectors_bit_for_bit():
    one = spectrum(1)
    frame = to_pandas(one)
    assert list(frame.columns) == list(DTYPE.names)
    for name in DTYPE.names:
        assert frame[name].dtype == DTYPE[name]
        assert frame[name].to_numpy().tobytes() == one[name].tobytes()
    one["flux"] = 0
    assert frame["flux"].any(), "the DataFrame is a copy"


def test_a_table_has_the_vectors_and_their_units():
    one = spectrum(1)
    table = to_Table(one)
    assert table.colnames == list(DTYPE.names)
    assert table["flux"].unit == table["sky"].unit == FLUX
    assert table["ivar"].unit == FLUX**-2
    assert table["wdisp"].unit == u.pix
    assert table["and_mask"].unit is None
    assert table["flux"].dtype == np.float32
    assert table["flux"].tobytes() == one["flux"].tobytes()


def test_big_endian_upper_case_records_of_fits_files_convert_too():
    one = spectrum(1)
    fits = one.astype([(name.upper(), DTYPE[name].newbyteorder(">")) for name in DTYPE.names])
    assert to_pandas(fits)["flux"].tolist() == one["flux"].tolist()
    assert to_Spectrum1D(fits).flux.value.tolist() == one["flux"].tolist()


def test_a_spectrum_has_units_uncertainty_and_mask():
    one = spectrum(1)
    made = to_Spectrum1D(one)
    assert isinstance(made, Spectrum)
    assert made.flux.unit == FLUX
    assert made.flux.dtype == np.float32
    assert made.flux.value.tobytes() == one["flux"].tobytes()
    assert isinstance(made.uncertainty, InverseVariance)
    assert made.uncertainty.unit == FLUX**-2
    assert np.flatnonzero(made.mask).tolist() == [3, 4]
    np.testing.assert_array_equal(
        made.spectral_axis.to_value(u.AA), 10 ** one["loglam"].astype(np.float64)
    )
    np.testing.assert_array_equal(made.meta["sky"].to_value(FLUX), one["sky"])
    assert made.meta["and_mask"].dtype == np.int32


def test_the_signal_to_noise_is_that_of_the_numbers():
    one = spectrum(1)
    made = to_Spectrum1D(one)
    good = ~made.mask
    ratio = made.flux[good] * np.sqrt(made.uncertainty.quantity[good])
    ratio = ratio.to_value(u.dimensionless_unscaled)
    np.testing.assert_allclose(ratio, (one["flux"] * np.sqrt(one["ivar"]))[good], rtol=1e-5)
    in_cgs = made.flux.to_value("erg / (s cm2 Angstrom)")
    np.testing.assert_allclose(in_cgs, one["flux"] * 1e-17, rtol=1e-6)


def test_aligned_spectra_make_one_spectrum_with_a_row_each():
    both = np.stack([spectrum(1), spectrum(2)])
    made = to_Spectrum1D(both)
    assert made.flux.shape == (2, NPIX)
    assert made.spectral_axis.shape == (NPIX,)
    assert made[1].flux.value.tobytes() == both[1]["flux"].tobytes()
    square = to_Spectrum1D(np.stack([spectrum(i) for i in range(NPIX)]))
    assert square.flux.shape == (NPIX, NPIX)
    assert [len(one) for one in (to_pandas(both), to_Table(both))] == [2, 2]


def test_records_of_another_survey_convert():
    desi = np.zeros(
        9, dtype=[("flux", "<f4"), ("wavelength", "<f8"), ("ivar", "<f4"), ("mask", "<i4")]
    )
    desi["wavelength"] = 3600 + 0.8 * np.arange(9)
    desi["ivar"] = 1
    desi["mask"][2] = 512
    with pytest.warns(UserWarning, match="does not carry its meaning"):
        made = to_Spectrum1D(desi)
    assert made.flux.unit == u.dimensionless_unscaled
    np.testing.assert_array_equal(made.spectral_axis.to_value(u.AA), desi["wavelength"])
    assert np.flatnonzero(made.mask).tolist() == [2]
    with pytest.warns(UserWarning, match="does not carry its meaning"):
        table = to_Table(desi)
    assert table["wavelength"].unit == u.AA
    assert table["flux"].unit is None


@pytest.mark.parametrize(
    "given", [[1.0, 2.0], np.zeros(3), spectrum(1)[["flux"]], spectrum(1)[["loglam", "ivar"]]]
)
def test_what_is_no_spectrum_is_refused(given):
    with pytest.raises(BadParameter):
        to_Spectrum1D(given)


@pytest.mark.parametrize("npix", [0, 1])
def test_the_shortest_spectra_convert(npix):
    one = spectrum(1)[:npix]
    assert to_Spectrum1D(one).flux.shape == (npix,)
    assert len(to_pandas(one)) == len(to_Table(one)) == npix


def test_an_answer_becomes_spectra_with_redshift_and_exact_axis():
    data = [spectrum(1), spectrum(2, 20)]
    made = convert(answer(list(data)), "spectrum")
    assert [len(one.flux) for one in made] == [NPIX, 20]
    np.testing.assert_array_equal(made[0].spectral_axis.to_value(u.AA), GRID.wave(FIRST, NPIX))
    assert made[0].meta["redshift"] == 0.25
    assert made[0].redshift.value == pytest.approx(0.25, abs=1e-12)
    assert (made[0].meta["id"], made[0].meta["context"]) == (2**63, "sdss_dr16")
    assert made[1].redshift.value == 0
    assert np.isnan(made[1].meta["redshift"])


def test_a_spectrum_off_the_lattice_keeps_its_axis():
    one = spectrum(1)
    one["loglam"] += np.float32(3e-5)
    (made,) = convert(answer([one.copy()], on_lattice=False), "spectrum")
    np.testing.assert_array_equal(
        made.spectral_axis.to_value(u.AA), 10 ** one["loglam"].astype(np.float64)
    )


def test_bad_bits_of_the_survey_are_masked():
    (made,) = convert(answer([spectrum(1)], bad_bits=1 << 24), "spectrum")
    assert np.flatnonzero(made.mask).tolist() == [3, 4, 7]


def test_an_aligned_answer_becomes_one_spectrum():
    data = np.stack([spectrum(1), spectrum(2)])
    made = convert(answer(data), "spectrum")
    assert made.flux.shape == (2, NPIX)
    assert made.meta["redshift"][0] == 0.25
    assert made.meta["id"].tolist() == [2**63, 2**63 + 1]
    np.testing.assert_array_equal(made.spectral_axis.to_value(u.AA), GRID.wave(FIRST, NPIX))


@pytest.mark.parametrize("data", [[spectrum(1), spectrum(2)], np.stack([spectrum(1), spectrum(2)])])
def test_an_answer_becomes_frames_and_tables_in_order(data, tmp_path):
    frames = convert(answer(data if isinstance(data, np.ndarray) else list(data)), "pandas")
    assert [frame["flux"].to_numpy().tobytes() for frame in frames] == [
        one["flux"].tobytes() for one in data
    ]
    assert frames[1].attrs["id"] == 2**63 + 1
    tables = convert(answer(data if isinstance(data, np.ndarray) else list(data)), "table")
    assert tables[1].meta == {"id": 2**63 + 1, "context": "sdss_dr16", "survey": "sdss"}
    assert tables[1]["loglam"].unit is None
    tables[1].write(tmp_path / "one.fits")
    assert tables[1]["ivar"].unit == FLUX**-2
