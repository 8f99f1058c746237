"""Spectral lines with their vacuum wavelengths, and air ↔ vacuum conversion.

Wavelengths of emission lines come from ``sdss/idlspec2d`` ``etc/emlines.par``, those of absorption
lines from ``desihub/prospect``. Wavelengths in air were converted with Ciddor (1996), as all
conversions here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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


def _lines(kind: Kind, waves_aa: Mapping[str, tuple[float, ...]]) -> tuple[SpectralLine, ...]:
    """Return the lines of one kind, by wavelength."""
    lines = (SpectralLine(name, wave, kind) for name, waves in waves_aa.items() for wave in waves)
    return tuple(sorted(lines, key=lambda line: line.wave_aa))


EMISSION_LINES = _lines(
    "emission",
    {
        "Lyβ": (1025.18,),
        "Lyα": (1215.67,),
        "N V": (1240.81,),
        "Si IV": (1393.75,),
        "O IV]": (1402.77,),
        "C IV": (1549.48,),
        "He II": (1640.42, 4686.991, 5413.025),
        "C III]": (1908.734,),
        "Mg II": (2796.354, 2803.532),
        "[Ne V]": (3346.79, 3426.85),
        "[O II]": (3727.092, 3729.875),
        "[Ne III]": (3869.857, 3968.593),
        "Hζ": (3890.166,),
        "Hε": (3971.198,),
        "Hδ": (4102.892,),
        "Hγ": (4341.684,),
        "[O III]": (4364.435, 4960.295, 5008.240),
        "Hβ": (4862.683,),
        "[N II]": (5756.186, 6549.859, 6585.269),
        "He I": (5877.309,),
        "[O I]": (6302.046, 6365.535),
        "[S III]": (6313.806, 9071.089, 9533.214),
        "Hα": (6564.614,),
        "[S II]": (6718.294, 6732.678),
        "[Ar III]": (7137.757,),
    },
)
"""Emission lines of galaxies and quasars, by wavelength."""

BALMER_ABSORPTION = tuple(
    SpectralLine(line.name, line.wave_aa, "absorption")
    for line in EMISSION_LINES
    if line.name in {"Hα", "Hβ", "Hγ", "Hδ", "Hε", "Hζ"}
)
"""Balmer lines in absorption, as in spectra of stars, by wavelength."""

ABSORPTION_LINES = _lines(
    "absorption",
    {
        "Si II": (1260.422, 1304.370, 1526.707, 1808.013),
        "O I": (1302.169,),
        "C II": (1334.532,),
        "Fe II": (1608.451, 2344.213, 2374.460, 2382.764),
        "Al II": (1670.788,),
        "Al III": (1854.718, 1862.791),
        "Mg I": (2026.477,),
        "Ca K": (3934.778,),
        "Ca H": (3969.593,),
        "G band": (4308.952,),
        "Mg b": (5176.441,),
        "Na D2": (5891.582,),
        "Na D1": (5897.554,),
        "Ca II": (8500.355, 8544.437, 8664.519),
    },
)
"""Interstellar and stellar absorption lines, by wavelength."""

SKY_LINES = _lines("sky", {"[O I] sky": (5578.888, 6302.046, 6365.535)})
"""Night-sky lines that leave residuals at fixed observed wavelengths."""


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
