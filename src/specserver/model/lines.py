"""Spectral lines with their vacuum wavelengths, and air ↔ vacuum conversion.

Wavelengths of emission lines come from ``sdss/idlspec2d`` ``etc/emlines.par``, those of absorption
lines from ``desihub/prospect``; helium, sodium and potassium of stars from NIST; the heads of the
bands of TiO and C₂ are known to about 1 Å. Wavelengths in air were converted with Ciddor (1996), as
all conversions here.
"""

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["emission", "absorption", "sky"]

AIR_FROM_AA = 2000.0
"""Least wavelength that is published in air; below, wavelengths are in vacuum by custom."""

# Ciddor (1996, Applied Optics 35, 1566): dry air of 15 °C, 101325 Pa and 450 ppm of CO2. Two terms
# a / (b - 1/λ²), λ the vacuum wavelength in µm.
_CIDDOR = ((5.792105e-2, 238.0185), (1.67917e-3, 57.362))
# Each round divides the error by about 1e5: three leave less than 1e-12 Å.
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class SpectralLine:
    """A line, or an unresolved blend under one name."""

    name: str
    wave_aa: float
    """Vacuum wavelength at rest; in the observer's frame for lines of the night sky."""
    kind: Kind
    rank: int = 0
    """Order in which pictures leave lines out where names have no room: the highest first."""


def _lines(kind: Kind, *named: tuple[Any, ...]) -> tuple[SpectralLine, ...]:
    """Return the lines of one kind, by wavelength.

    Parameters
    ----------
    named
        Name and wavelengths of lines each, the most prominent first.
    """
    lines = (
        SpectralLine(name, wave, kind, rank)
        for rank, (name, *waves) in enumerate(named, 1)
        for wave in waves
    )
    return tuple(sorted(lines, key=lambda line: line.wave_aa))


EMISSION_LINES = _lines(
    "emission",
    ("Hα", 6564.614),
    ("Lyα", 1215.67),
    ("C IV", 1549.48),
    ("Mg II", 2796.354, 2803.532),
    ("[O III]", 4960.295, 5008.240),
    ("[O II]", 3727.092, 3729.875),
    ("C III]", 1908.734),
    ("Hβ", 4862.683),
    ("[S II]", 6718.294, 6732.678),
    ("[N II]", 6549.859, 6585.269),
    ("Hγ", 4341.684),
    ("[S III]", 9071.089, 9533.214),
    ("Hδ", 4102.892),
    ("[Ne III]", 3869.857),
    ("[O I]", 6302.046, 6365.535),
    ("He I", 5877.309),
    ("Si IV", 1393.75),
    ("N V", 1240.81),
    ("[Ne V]", 3346.79, 3426.85),
    ("He II", 1640.42, 4686.991),
    ("[Ar III]", 7137.757),
    ("Lyβ", 1025.18),
    ("Hε", 3971.198),
    ("Hζ", 3890.166),
    ("[Ne III]", 3968.593),
    ("O IV]", 1402.77),
    ("[O III]", 4364.435),
    ("[N II]", 5756.186),
    ("[S III]", 6313.806),
    ("He II", 5413.025),
)
"""Emission lines of galaxies and quasars, by wavelength."""

BALMER_ABSORPTION = tuple(
    replace(line, kind="absorption")
    for line in EMISSION_LINES
    if line.name in {"Hα", "Hβ", "Hγ", "Hδ", "Hε", "Hζ"}
)
"""Balmer lines in absorption, as in spectra of stars, by wavelength."""

ABSORPTION_LINES = _lines(
    "absorption",
    ("Ca K", 3934.778),
    ("Mg b", 5176.441),
    ("Ca II", 8500.355, 8544.437, 8664.519),
    ("Na D1", 5897.554),
    ("G band", 4308.952),
    ("Ca H", 3969.593),
    ("Na D2", 5891.582),
    ("Al III", 1854.718, 1862.791),
    ("Fe II", 1608.451, 2344.213, 2374.460, 2382.764),
    ("Si II", 1260.422, 1304.370, 1526.707, 1808.013),
    ("Al II", 1670.788),
    ("C II", 1334.532),
    ("O I", 1302.169),
    ("Mg I", 2026.477),
)
"""Interstellar and stellar absorption lines, by wavelength."""

STELLAR_ABSORPTION = tuple(
    line
    for line in ABSORPTION_LINES
    if line.name in {"Ca K", "Ca H", "G band", "Mg b", "Na D1", "Ca II"}
)
"""Lines of cool stars and of the stars of galaxies, by wavelength."""

HOT_ABSORPTION = _lines(
    "absorption", ("He I", 4027.33, 4472.73, 5877.25, 6679.99), ("He II", 4542.86, 4686.99, 5413.02)
)
"""Helium in stars of the types O and B, by wavelength."""

COOL_ABSORPTION = _lines(
    "absorption",
    ("TiO", 4956.0, 5449.7, 6160.2, 7056.2),
    ("Na I", 8185.51, 8197.08),
    ("K I", 7667.01, 7701.08),
)
"""Lines, and heads of bands, of stars of the types M and later, by wavelength."""

SWAN_BANDS = _lines("absorption", ("C₂", 4738.4, 5166.6, 5637.1))
"""Heads of the bands of carbon stars, by wavelength."""

SKY_LINES = _lines("sky", ("[O I] sky", 5578.888, 6302.046, 6365.535))
"""Night-sky lines that leave residuals at fixed observed wavelengths."""


_OF_CLASSES: Final = (
    ("GALAXY", "AGN", (20, 0.0, STELLAR_ABSORPTION)),
    ("GALAXY", "BROADLINE", (20, 0.0, STELLAR_ABSORPTION)),
    ("GALAXY", "STAR", (16, 3700.0, STELLAR_ABSORPTION)),
    ("GALAXY", "", (10, 3700.0, STELLAR_ABSORPTION)),
    ("QSO", "", (26, 0.0, ())),
    ("", "", (20, 0.0, ABSORPTION_LINES)),
)
"""Class (empty: any) and a word in the subclass; highest rank and least wavelength, Å, of the
emission lines, and the absorption lines. The first that fits counts. Subclasses of star formation
begin with STAR."""
_OF_TYPES: Final = (
    (("CV",), tuple(line for line in EMISSION_LINES if line.name.startswith("H"))),
    (("CARBON",), SWAN_BANDS + STELLAR_ABSORPTION),
    (("O", "B"), BALMER_ABSORPTION + HOT_ABSORPTION),
    (("WD", "A", "D"), BALMER_ABSORPTION),
    (("M", "L", "T"), COOL_ABSORPTION + STELLAR_ABSORPTION),
    (("",), BALMER_ABSORPTION + STELLAR_ABSORPTION),
)
"""Beginnings of the types of stars, and their lines; the first that fits counts."""


SKY_FIBRE: Final = "sky fibre"
"""What pictures call a fibre on the sky, which has neither class nor redshift."""


def lines_of(kind: str, subclass: str = "") -> tuple[SpectralLine, ...]:
    """Return the lines to mark in a spectrum of an object, as its survey classifies it.

    Galaxies have the emission lines that are usual in their subclass, and those of their stars;
    quasars their usual emission lines; stars the absorption lines of their type. An object without
    a class may have any of the more prominent ones, a fibre on the sky has none.

    Parameters
    ----------
    kind
        ``GALAXY``, ``QSO`` or ``STAR``, in any case, or `SKY_FIBRE`.
    subclass
        Of a star, its type, such as ``G2`` or ``WD``; of a galaxy, such as ``STARFORMING``.
    """
    if kind == SKY_FIBRE:
        return ()
    name, kind = subclass.strip().upper(), kind.strip().upper()
    if kind == "STAR":
        return next(lines for types, lines in _OF_TYPES if name.startswith(types))
    most, least_aa, absorption = next(
        usual for own, word, usual in _OF_CLASSES if own in {kind, ""} and word in name
    )
    emission = (line for line in EMISSION_LINES if line.rank <= most and line.wave_aa > least_aa)
    return (*emission, *absorption)


def vacuum_to_air(wave: npt.ArrayLike) -> Any:
    """Return wavelengths in standard air, after Ciddor (1996).

    Wavelengths below `AIR_FROM_AA` in air stay unchanged. So `air_to_vacuum` is the inverse except
    within 0.65 Å above `AIR_FROM_AA`.

    Parameters
    ----------
    wave : scalar or any shape float, vacuum Å

    Returns
    -------
    float64, same shape, Å in air
    """
    vacuum = np.asarray(wave, dtype=np.float64)
    air = vacuum / _index(np.maximum(vacuum, AIR_FROM_AA))
    return np.where(air >= AIR_FROM_AA, air, vacuum)[()]


def air_to_vacuum(wave: npt.ArrayLike) -> Any:
    """Return vacuum wavelengths, after Ciddor (1996).

    Those below `AIR_FROM_AA` are taken as vacuum already.

    Parameters
    ----------
    wave : scalar or any shape float, Å in air

    Returns
    -------
    float64, same shape, vacuum Å
    """
    air = np.asarray(wave, dtype=np.float64)
    safe = np.maximum(air, AIR_FROM_AA)
    vacuum = safe
    for _ in range(_ROUNDS):
        vacuum = safe * _index(vacuum)
    return np.where(air >= AIR_FROM_AA, vacuum, air)[()]


def _index(vacuum: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the refractive index of standard air, for vacuum wavelengths in Å."""
    square = (1e4 / vacuum) ** 2
    first, second = ((above / (below - square)) for above, below in _CIDDOR)
    index: npt.NDArray[np.float64] = 1.0 + first + second
    return index
