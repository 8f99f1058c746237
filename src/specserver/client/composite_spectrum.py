"""A composite spectrum in the caller's hands: arrays, conversions, a picture, a file."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from ..errors import BadParameter, MissingPackage
from ..extras import require
from ..model.spacename import in_space
from ..tracebacks import short_methods
from ..wire.composite import COLUMNS
from .request import whole_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..render.display import DisplaySpectrum
    from ..render.figure.spectrum import FigureLook

_PICTURES: Final = (".png", ".pdf", ".svg")
_ENDINGS: Final = (".ecsv", ".csv", ".fits", ".npy", *_PICTURES)
_FEWEST: Final = 3
_FEWEST_PART: Final = 10
"""A picture leaves out pixels to which fewer spectra contribute than these, and than a tenth."""
_TITLES: Final = {"mean": "mean", "median": "median", "ivar": "weighted mean"}


def composite_file(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """Return a file for a composite and its ending, having checked that it can be written."""
    from .storage import local_file, read_ending

    ending = read_ending(path, _ENDINGS)
    if in_space(os.fspath(path)):
        raise BadParameter("out", os.fspath(path), "a file of this machine; vos.put() uploads it")
    if ending in _PICTURES:
        require("a figure", "notebook", "matplotlib")
    return local_file(path), ending


@short_methods
@dataclass(frozen=True, slots=True, repr=False, eq=False)
class CompositeSpectrum:
    """A composite of many spectra; NaN in flux and errors where none counts."""

    wavelength: npt.NDArray[np.float64]
    """1D[npix], Å of the frame, in vacuum; ``meta['medium']`` says where that is not known."""
    flux: npt.NDArray[np.float64]
    """1D[npix]"""
    error: npt.NDArray[np.float64]
    """1D[npix], standard deviation propagated from the variances of the spectra."""
    error_bootstrap: npt.NDArray[np.float64]
    """1D[npix], standard deviation by resampling the spectra; NaN for fewer than two."""
    count: npt.NDArray[np.int64]
    """1D[npix], number of spectra that count in each pixel."""
    nspec: int
    """Number of spectra that count in some pixel."""
    unit: str
    """Unit of flux and errors, as astropy reads it; empty for normalised spectra."""
    skipped: Mapping[str, tuple[int | tuple[str, int], ...]]
    """Identifiers that were left out, by reason; the first thousand of each."""
    meta: Mapping[str, Any]
    """Parameters of the request, and the number of spectra left out."""

    @property
    def ivar(self) -> npt.NDArray[np.float64]:
        """1D[npix], inverse variance; zero where no spectrum counts."""
        good = (self.count > 0) & (self.error > 0)
        return np.divide(1.0, self.error**2, out=np.zeros(len(self.error)), where=good)

    @property
    def weighted(self) -> bool:
        """Whether the spectra had uncertainties: without them ``error`` is NaN."""
        return bool(self.meta.get("weighted", True))

    def to_numpy(self) -> npt.NDArray[Any]:
        """Return a structured array, 1D[npix]: wavelength, flux, both errors, count."""
        columns = {name: getattr(self, name) for name in COLUMNS}
        kinds = [(name, column.dtype) for name, column in columns.items()]
        out = np.empty(len(self.wavelength), kinds)
        for name, column in columns.items():
            out[name] = column
        return out

    def to_Table(self) -> Any:
        """Return an astropy Table with units."""
        from astropy import units as u
        from astropy.table import Table

        flux = u.Unit(self.unit)
        units = {"wavelength": u.AA} | dict.fromkeys(("flux", "error", "error_bootstrap"), flux)
        return Table(self.to_numpy(), units=units, meta=self._said())

    def to_Spectrum1D(self) -> Any:
        """Return a specutils Spectrum; pixels in which no spectrum counts are masked."""
        require("to_Spectrum1D()", "notebook", "specutils")
        from astropy import units as u
        from astropy.nddata import InverseVariance
        from specutils import Spectrum

        unit = u.Unit(self.unit)
        empty = self.count == 0
        meta = self._said() | {"error_bootstrap": self.error_bootstrap, "count": self.count}
        return Spectrum(
            flux=u.Quantity(np.where(empty, 0.0, self.flux), unit),
            spectral_axis=u.Quantity(self.wavelength, u.AA),
            uncertainty=InverseVariance(self.ivar, unit=unit**-2) if self.weighted else None,
            mask=empty,
            meta=meta,
        )

    def plot(
        self, out: str | os.PathLike[str] | None = None, *, min_count: int | None = None
    ) -> "Figure | None":
        """Show the composite with its error, and with the lines at rest; or save the figure.

        Parameters
        ----------
        out
            A file to write instead, PNG, PDF or SVG by its ending.
        min_count
            Pixels to which fewer spectra contribute are not shown. By default a tenth of the
            spectra, and at least three where there are so many.

        Returns
        -------
        matplotlib Figure or None
            None when a file was written.
        """
        if out is not None:
            self._write(out, min_count)
            return None
        drawn = self._drawn(min_count)
        from .plots.figure import show

        return show(*drawn)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file, of the kind that its name ends in: a table, an array or a picture."""
        self._write(path, None)

    def _write(self, path: str | os.PathLike[str], min_count: int | None) -> None:
        """Write a file; ``min_count`` is that of a picture."""
        from .storage import write_output

        file, ending = composite_file(path)
        write_output(file, [self._encoded(ending, min_count)])

    def _encoded(self, ending: str, min_count: int | None = None) -> bytes:
        """Return the content of a file."""
        if ending in _PICTURES:
            drawn = self._drawn(min_count)
            from .plots.figure import save

            return save(*drawn, f"composite{ending}")
        from .results.table_file import encoded, npy_bytes

        if ending == ".npy":
            return npy_bytes(self.to_numpy())
        table = self.to_Table()
        if ending == ".fits":
            # A card holds a short value: the rest stays in the other formats.
            plain = str | int | float
            table.meta = {
                name: value for name, value in table.meta.items() if isinstance(value, plain)
            }
            return encoded(table, "fits")
        return encoded(table, f"ascii.{ending[1:]}")

    def _said(self) -> dict[str, Any]:
        """Return the metadata of the composite as plain values."""
        return {name: value for name, value in self.meta.items() if value is not None} | {
            "nused": self.nspec
        }

    def _drawn(self, min_count: int | None) -> "tuple[list[DisplaySpectrum], FigureLook]":
        """Return the composite as it is drawn, without the pixels of few spectra."""
        require("a figure", "notebook", "matplotlib")
        from ..model.lines import lines_of
        from ..model.medium import VACUUM
        from ..render.display import DisplaySpectrum
        from ..render.figure.spectrum import FigureLook

        fewest = max(min(self.nspec, _FEWEST), -(-self.nspec // _FEWEST_PART))
        least = fewest if min_count is None else whole_number("min_count", min_count)
        shown = self.count >= max(1, least)
        ends = np.flatnonzero(shown)
        part = slice(ends[0], ends[-1] + 1) if len(ends) else slice(None)
        spectrum = DisplaySpectrum(
            wave=self.wavelength[part],
            flux=np.where(shown, self.flux, np.nan)[part],
            ivar=self.ivar[part] if self.weighted else None,
            title=f"{_TITLES[self.meta['method']]} of {self.nspec:,} spectra"
            f" of {self.meta['context']}",
            flux_unit=self.unit or "normalised",
            lines=lines_of(""),
            rest=self.meta.get("frame") == "rest",
            medium=self.meta.get("medium", VACUUM),
        )
        return [spectrum], FigureLook(parts=("flux", "noise"), grid=True, smooth=0.0)

    def _repr_png_(self) -> bytes | None:
        """Return a picture for a notebook, which shows text where matplotlib is missing."""
        try:
            return self._encoded(".png")
        except MissingPackage:
            return None

    @override
    def __repr__(self) -> str:
        ends = "no pixels"
        if len(self.wavelength):
            ends = f"{self.wavelength[0]:.0f}–{self.wavelength[-1]:.0f} Å"
        how = f"{self.meta.get('method')}, {self.meta.get('frame')}"
        return f"<CompositeSpectrum of {self.nspec:,} spectra ({how}), {ends}>"
