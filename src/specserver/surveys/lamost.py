"""LAMOST low-resolution spectra of DR1 to DR7: ``spec-LMJD-PLANID_spSS-FFF.fits``.

The one HDU is an image of 32-bit floats, (5, npix):

=== ========== =======================================================================
row content    traps
=== ========== =======================================================================
0   flux       relative: it has no unit
1   ivar       0 where there is no information
2   wavelength vacuum Å, heliocentric, rounded to float32; Subcontinuum in DR1 to DR3
3   andmask    bits, kept as floats
4   ormask     likewise
=== ========== =======================================================================

Wavelengths are 10**(COEFF0 + i · 1e-4) rounded to float32, where COEFF0 was itself rounded to
float32 before. So spectra of the usual COEFF0, 3.5682, lie on one lattice bit for bit, and one that
begins elsewhere is off it by up to a thousandth of a pixel.

Files of DR1 to DR3 have flux over continuum in the place of wavelengths, as EXTEN0 says; it is not
read. Their cards COEFF0 and COEFF1, or CRVAL1 and CD1_1, state the axis; it is computed from them
by the rule above, which holds for every later file that states both, so that one lattice serves
all. Like the later ones they say VACUUM = T, HELIO = T, and Hβ and Ca II of an F9 star are found
there, within 0.2 Å of where they are in vacuum. They have no OBSID: such a spectrum gets a negative
one, made of LMJD, PLANID, SPID and FIBERID.

The catalogue is in the header. The day in the name is the local one (LMJD); MJD is one less for
most of the night. From DR8 on the HDUs are others; these files are refused.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ..digests import hash64
from ..errors import BadFile
from ..model.grid import LogWave, PixelRange
from ..model.skyframe import frame_of
from ..model.survey import Best, Column, Fact, FileKey, RawSpectrum, Release, Survey, Vector
from ..ops.fitstable import cards, header_end
from ..ops.wholefits import FITS_ENDING, open_bytes

_CASELESS = re.ASCII | re.IGNORECASE
_NAME = re.compile(rf"spec-(\d{{5}})-([\w+]+)_sp(\d{{2}})-(\d{{3}}){FITS_ENDING}", _CASELESS)
_MEDIUM = re.compile(rf"med-(\d{{5}})-[\w+]+_sp(\d{{2}})-(\d{{3}}){FITS_ENDING}", _CASELESS)
_RELEASE = re.compile(r"DR(\d+)")
_ROWS: Final = 5
# Cards of DR1 to DR3 that have other names in later files.
_EARLY: Final = {
    "TSOURCE": "OBJSOURC",
    "TFROM": "T_FROM",
    "TCOMMENT": "T_INFO",
    **{f"SNR{band}": f"SN_{band}" for band in "UGRIZ"},
}
# Start and step of the header's axis.
_AXIS: Final = (("COEFF0", "COEFF1"), ("CRVAL1", "CD1_1"))
Cards: TypeAlias = Mapping[str, str | int | float | bool]

_RECORD = (
    Vector("flux", "<f4", "", "flux density, relative: the survey states no unit"),
    Vector("wavelength", "<f4", "Angstrom", "vacuum wavelength, heliocentric"),
    Vector("ivar", "<f4", "", "inverse variance of flux; 0: no information"),
    Vector("andmask", "<i4", "", "mask bits set in all exposures"),
    Vector("ormask", "<i4", "", "mask bits set in any exposure"),
)
# Name of a column, its type, the card it comes from, unit, meaning: names are those of the
# survey's own catalogue.
_CARDS: Final = (
    ("obsid", "<i8", "OBSID", "", "unique number of the spectrum; negative: made here, for want"),
    ("designation", "U", "DESIG", "", "name of the target, made of its position"),
    ("lmjd", "<i4", "LMJD", "d", "local modified Julian day of the night; that in file names"),
    ("mjd", "<i4", "MJD", "d", "modified Julian day, UTC"),
    ("planid", "U", "PLANID", "", "name of the plan"),
    ("spid", "<i4", "SPID", "", "spectrograph, 1–16"),
    ("fiberid", "<i4", "FIBERID", "", "fibre, 1–250"),
    ("ra", "<f8", "RA", "deg", "right ascension of the target, FK5 J2000"),
    ("dec", "<f8", "DEC", "deg", "declination of the target, FK5 J2000"),
    ("z", "<f8", "Z", "", "redshift; −9999: not found"),
    ("zerr", "<f8", "Z_ERR", "", "error of z"),
    ("class", "U", "CLASS", "", "class: GALAXY, QSO, STAR or Unknown"),
    ("subclass", "U", "SUBCLASS", "", "subclass, such as G3"),
    ("zflag", "U", "ZFLAG", "", "method that gave the redshift"),
    *(
        (f"snr{band}", "<f4", f"SNR{band.upper()}", "", f"signal to noise in {band}")
        for band in "ugriz"
    ),
    ("objtype", "U", "OBJTYPE", "", "type of the target in the input catalogue"),
    ("tsource", "U", "TSOURCE", "", "who asked for the target"),
    ("tfrom", "U", "TFROM", "", "input catalogue"),
    ("tcomment", "U", "TCOMMENT", "", "identifier of the target there"),
    ("fibertype", "U", "FIBERTYP", "", "Obj, Sky, F-std, …"),
    ("fibermask", "<i4", "FIBERMAS", "", "warning bits of the fibre; 0: none"),
    ("magtype", "U", "MAGTYPE", "", "what the magnitudes are"),
    *((f"mag{i}", "<f4", f"MAG{i}", "mag", "magnitude; 99: none") for i in range(1, 8)),
    ("exptime", "<f4", "EXPTIME", "s", "exposure time"),
    ("helio_rv", "<f4", "HELIO_RV", "km / s", "heliocentric correction that was applied"),
    ("verspipe", "U", "VERSPIPE", "", "version of the pipeline"),
)
_COLUMNS = (
    *(Column(name, dtype, unit, meaning) for name, dtype, _, unit, meaning in _CARDS),
    Column("is_best", "u1", "", "1: the highest signal to noise in g of the target"),
)
_ALIASES: Final = {
    "z_err": "zerr", "desig": "designation", "fibertyp": "fibertype", "fibermas": "fibermask"
}  # fmt: skip


class ImageReader:
    """Recognise and read low-resolution files; medium-resolution ones are refused by name."""

    def identify(self, path: Path) -> FileKey | None:
        """Return local day, spectrograph and fibre of a file's name; None for another name."""
        if match := _NAME.fullmatch(path.name):
            day, _, spectrograph, fibre = match.groups()
            return FileKey(path, (int(day), int(spectrograph), int(fibre)))
        if match := _MEDIUM.fullmatch(path.name):
            return FileKey(path, tuple(int(part) for part in match.groups()))
        return None

    def is_companion(self, path: Path) -> bool:
        """Return False: each file is read by itself."""
        del path
        return False

    def read(self, path: Path) -> list[RawSpectrum]:
        """Read the one spectrum of a file; errors: those of `Reader.read`."""
        return self.read_from_bytes(path, open_bytes(path))

    def read_from_bytes(self, path: Path, data: bytes) -> list[RawSpectrum]:
        """Read the one spectrum from the decompressed bytes of a file; errors: those of `read`."""
        if _MEDIUM.fullmatch(path.name):
            raise BadFile("a medium-resolution spectrum; this survey is the low-resolution one")
        header, image = _read_image(data)
        _check_name(path, header)
        flux, ivar, _, both, either = image
        if header.get("VACUUM") is not True:
            raise BadFile("the header does not say that wavelengths are in vacuum (VACUUM)")
        wave = _wave(header, image[2])
        row = _row(header)
        vectors = {
            "flux": flux, "ivar": ivar, "andmask": _bits(both), "ormask": _bits(either)
        }  # fmt: skip
        stated = _RELEASE.search(str(header.get("DATA_V", "")))
        # Files of DR1 to DR3 do not state their release.
        reduction = f"dr{stated[1]}" if stated else ""
        number, ra, dec = int(row["obsid"]), float(row["ra"]), float(row["dec"])
        return [RawSpectrum(number, ra, dec, reduction, wave, vectors, row)]


def _read_image(data: bytes) -> tuple[Cards, npt.NDArray[np.float32]]:
    """Return the cards of HDU0 and its image, 2D[5, npix] float32, native byte order."""
    if not data.startswith(b"SIMPLE  ="):
        raise BadFile("not a FITS file")
    end = header_end(data, 0)
    header = cards(data[:end])
    shape = tuple(header.get(name) for name in ("BITPIX", "NAXIS", "NAXIS2"))
    npix = header.get("NAXIS1", 0)
    if shape != (-32, 2, _ROWS) or not isinstance(npix, int) or not npix:
        raise BadFile("HDU0 is not an image of five rows of 32-bit floats, as up to DR7")
    if len(data) < end + 4 * _ROWS * npix:
        raise BadFile("cut off inside HDU0")
    image = np.frombuffer(data, ">f4", _ROWS * npix, end).reshape(_ROWS, npix)
    return header, image.astype("<f4")


def _wave(header: Cards, row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the wavelengths, 1D[npix] float32, vacuum Å: their row, or else the header's axis."""
    named = re.split(r"[,\s]+", str(header.get("EXTEN0", "")).strip().casefold())
    if len(named) < _ROWS or named[2] == "wavelength":
        return row
    if named[2] != "subcontinuum":
        raise BadFile(f"EXTEN0 calls the third row {named[2]!r}: neither wavelength nor continuum")
    stated = [
        (float(header[first]), float(header[step]))
        for first, step in _AXIS
        if isinstance(header.get(first), int | float) and isinstance(header.get(step), int | float)
    ]
    if not stated:
        raise BadFile("no row of wavelengths, and neither COEFF0, COEFF1 nor CRVAL1, CD1_1")
    start, step = stated[0]
    log = header.get("DC-FLAG", 1) == 1 and header.get("CRPIX1", 1) == 1
    if not log or len(set(stated)) > 1 or not (2.0 < start < 5.0 and 0.0 < step < 0.01):
        raise BadFile(f"the header's axis is not log10 Å from the first pixel on: {stated}")
    axis = 10.0 ** (float(np.float32(start)) + step * np.arange(len(row)))
    return axis.astype(np.float32)


def _check_name(path: Path, header: Cards) -> None:
    """Refuse a file whose header contradicts its name."""
    match = _NAME.fullmatch(path.name)
    stated = tuple(header.get(name) for name in ("LMJD", "PLANID", "SPID", "FIBERID"))
    if match is not None:
        day, plan, spectrograph, fibre = match.groups()
        named = (int(day), plan.casefold(), int(spectrograph), int(fibre))
        if (stated[0], str(stated[1]).casefold(), *stated[2:]) != named:
            raise BadFile(f"the header is of LMJD, PLANID, SPID, FIBERID {stated}, not of the name")


def _row(header: Cards) -> dict[str, Any]:
    """Return the catalogue row; raise `BadFile` where a card that every file has is missing."""
    row: dict[str, Any] = {}
    for name, dtype, card, _, _ in _CARDS:
        value = header.get(card, header.get(_EARLY.get(card, card)))
        if value is None or dtype == "U":
            row[name] = None if value is None else str(value).strip()
            continue
        try:
            row[name] = np.dtype(dtype).type(value)
        except (ValueError, OverflowError) as error:
            raise BadFile(f"the card {card} is {value!r}, not a number") from error
    needed = ("lmjd", "planid", "spid", "fiberid", "ra", "dec", "z", "class")
    if missing := [name.upper() for name in needed if row[name] is None]:
        raise BadFile(f"the header has no card {', '.join(missing)}")
    if row["obsid"] is None:
        # Negative, and the same whenever the file is read.
        text = " ".join(str(row[name]) for name in ("lmjd", "planid", "spid", "fiberid"))
        row["obsid"] = np.int64(-1 - hash64(text) % 2**63)
    if not (0.0 <= row["ra"] <= 360.0 and -90.0 <= row["dec"] <= 90.0):
        raise BadFile(f"RA, DEC = {row['ra']}, {row['dec']} is no position")
    frame = frame_of(header)
    if frame is not None:
        raise BadFile(f"its position is in {frame.label}, not in FK5 J2000 or ICRS")
    return row


def _bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """Return mask bits that are stored as floats as integers, 1D[npix] int32."""
    with np.errstate(invalid="ignore"):
        bits = values.astype(np.int32)
    if not np.array_equal(bits, values):
        raise BadFile("a row of mask bits holds something else than whole numbers")
    return bits


LAMOST = Survey(
    name="lamost",
    title="LAMOST low-resolution spectra",
    grid=LogWave(start=float(np.float32(3.5682)), step=1e-4),
    # Files have up to 3909 pixels; a spectrum that begins elsewhere keeps its own wavelengths.
    window=PixelRange(0, 3920),
    record=_RECORD,
    id_column=_COLUMNS[0],
    id_parts=("lmjd", "spid", "fiberid", "planid"),
    has_reduction=False,
    columns=_COLUMNS,
    aliases=_ALIASES,
    primary=("is_best", 1),
    best=Best("designation", (("snrg", "desc"),)),
    z_column="z",
    indexed=(("class", "z"), ("z",)),
    class_column="class",
    name_form="{designation} obsid={obsid}",
    facts=(
        Fact("class", "class"),
        Fact("subclass", "subclass"),
        Fact("z", "z", ".5f"),
        Fact("±", "zerr", ".5f"),
        Fact("RA", "ra", ".6f"),
        Fact("Dec", "dec", "+.6f"),
    ),
    flux_scale="",
    mask_vector="andmask",
    # Bad pixels have ivar 0; the bits add details of exposures only.
    bad_bits=0,
    frame="FK5 J2000; wavelengths in vacuum, heliocentric; flux is relative and has no unit",
    releases=tuple(
        Release(f"lamost_dr{n}", f"LAMOST Data Release {n}, low resolution", (f"dr{n}",))
        for n in range(1, 8)
    ),
    reader=ImageReader(),
    tables={
        "lrs": "the best spectrum of each target (is_best = 1)",
        "lrsall": "all low-resolution spectra",
    },
)
