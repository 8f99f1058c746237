"""The interactive viewer in a notebook, a browser or a file.

The viewer itself is `specserver.render.viewer`; `spectra` reads the spectra.
"""

import os
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...errors import BadParameter
from ..inputs.context_ids import ONE_OR_MORE
from ..messages import warn
from ..progress import in_notebook
from ..storage import local_file, write_output

if TYPE_CHECKING:
    from ...render.display import DisplaySpectrum
    from ...render.viewer.parts import Look

MANY_SPECTRA: Final = 200
"""A page with more has over 20 MB and takes seconds to open."""
MOST_SPECTRA: Final = 2000
"""Browsers fail to open a page with more, of 200 MB."""

_NVECTORS: Final = 4
_PLOT_HEIGHT_PX: Final = 460
# What a page needs above and below its plot; with thumbnails; with the panel of inspection.
_CONTROLS_PX: Final = 180
_STRIP_PX: Final = 65
_PANEL_PX: Final = 175


@dataclass(frozen=True, slots=True)
class ViewerPage:
    """A page with the viewer, which loads nothing else; a notebook shows it."""

    html: str
    """The page."""
    width: int | None = None
    height: int | None = None
    """Of the plot, pixels."""
    controls_px: int = _CONTROLS_PX
    """Height of all but the plot."""

    # typing has override from Python 3.12 on.
    def __repr__(self) -> str:  # type: ignore[explicit-override]
        # A notebook keeps it beside the page.
        size = f"{len(self.html) / 1e6:.1f} MB"
        return f"<ViewerPage of {size}: show() opens it, save(file) writes it>"

    def save(self, out: str | os.PathLike[str]) -> None:
        """Write the page to a file for any browser."""
        write_output(local_file(out), [self.html.encode()])

    def show(self) -> None:
        """Show the page in the notebook, outside a notebook in a browser."""
        if in_notebook():
            import_module("IPython.display").display(self)
            return
        with tempfile.NamedTemporaryFile(
            "w", prefix="spectra-", suffix=".html", encoding="utf-8", delete=False
        ) as file:
            file.write(self.html)
        if not webbrowser.open(Path(file.name).as_uri()):
            sys.stderr.write(f"specserver: found no browser; the page is {file.name}\n")

    def _repr_html_(self) -> str:
        """Return the page in a frame, which isolates its styles and scripts."""
        width = "100%" if self.width is None else f"{self.width + 40}px"
        height = (self.height or _PLOT_HEIGHT_PX) + self.controls_px
        return (
            f'<iframe srcdoc="{escape(self.html)}" width="{width}" height="{height}"'
            ' style="border: 0" title="spectra"></iframe>'
        )


def make_page(spectra: Sequence["DisplaySpectrum"], look: "Look") -> ViewerPage:
    """Return a page with the viewer of some spectra.

    Raises
    ------
    BadParameter
        None, or more than a browser can hold.
    """
    from ...render.style import MOST_OVER
    from ...render.viewer.document import viewer_html

    require_count(len(spectra))
    if look.overplot and len(spectra) > MOST_OVER:
        allowed = f"up to {MOST_OVER} spectra over one another; without overplot a page holds more"
        raise BadParameter("overplot", f"{len(spectra):,} spectra", allowed)
    if len(spectra) > MANY_SPECTRA:
        mbytes = sum(len(spectrum.wave) for spectrum in spectra) * 4 * _NVECTORS * 4 / 3 / 1e6
        warn(f"{len(spectra):,} spectra make a page of about {mbytes:.0f} MB, slow to open")
    if len(spectra) > 1:
        spectra = [
            spectrum if spectrum.title else replace(spectrum, title=f"spectrum {number}")
            for number, spectrum in enumerate(spectra, 1)
        ]
    strip, panel = len(spectra) > 1 and not look.overplot, look.inspection is not None
    controls = _CONTROLS_PX + strip * _STRIP_PX + panel * _PANEL_PX
    return ViewerPage(viewer_html(spectra, look), look.width, look.height, controls)


def require_count(nspec: int) -> None:
    """Refuse no spectra, and more than a browser can open."""
    if nspec == 0:
        raise BadParameter("data", "no spectra", f"{ONE_OR_MORE}, or spectra")
    if nspec > MOST_SPECTRA:
        allowed = f"a page holds at most {MOST_SPECTRA:,}; pass them in parts"
        raise BadParameter("data", f"{nspec:,} spectra", allowed)
