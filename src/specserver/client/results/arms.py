"""One arm of a spectrograph as a spectrum of its own."""

from collections.abc import Mapping
from typing import Any, Final

import numpy.typing as npt

_FLUX: Final = "flux"


def one_arm(fields: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]]:
    """Return vectors of the only arm under their plain names, others as they are.

    Where there is no ``flux`` but exactly one ``flux_<arm>``, that and the other vectors of the
    arm, ``ivar_<arm>`` and ``mask_<arm>``, are named as those of a spectrum.

    Parameters
    ----------
    fields
        Vectors by name, 1D[npix] or 2D[nspec, npix].
    """
    arms = [name.removeprefix(_FLUX) for name in fields if name.startswith(f"{_FLUX}_")]
    if _FLUX in fields or len(arms) != 1:
        return fields
    plain = {name: name.removesuffix(arms[0]) for name in fields}
    return {plain[name]: values for name, values in fields.items()}
