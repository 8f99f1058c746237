"""The interactive viewer of one spectrum or many, as a Bokeh document.

The scripts beside this file run in the browser: ``viewer.mjs`` and what it uses. They get the parts
of the page by the names that they have here. One table of float32 holds all spectra end to end,
about 100 kB each, so a page can hold hundreds.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.models import ColumnDataSource, CustomJS
from bokeh.resources import INLINE

from ...model.lines import ABSORPTION_LINES, EMISSION_LINES, SKY_LINES, SpectralLine
from ..display import DisplaySpectrum, Fit, series_labels, with_gaps
from ..inspection import ALIASES, CLASSES, INSPECTION_COLUMNS, ISSUES, QUALITIES
from ..style import DARK, LIGHT, Theme, flux_limits, wave_label, wave_limits
from .parts import Look, build_parts

# A later one uses those before it.
_SCRIPTS: Final = ("arrays.mjs", "thumbnails.mjs", "inspection.mjs", "viewer.mjs")
# Ways to store wavelengths; viewer.mjs has the same names.
OWN: Final = 0
LOG10: Final = 1
LINEAR: Final = 2
# A published axis of float32 log10 deviates by up to 0.003 pixels from its lattice.
_LATTICE_PIX: Final = 0.01
# Part of the axis that stays free on either side.
_MARGIN: Final = 0.01
_TITLE: Final = "Spectra"
# The page loads nothing from elsewhere. Bokeh makes functions of our scripts: unsafe-eval.
_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; style-src 'unsafe-inline';"
    " img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
)
_TEMPLATE: Final = """\
{% block preamble %}
<meta http-equiv="Content-Security-Policy" content="POLICY">
{% endblock %}
{% block postamble %}
<style>body { background: {{ light }}; } body:has(.dark) { background: {{ dark }}; }</style>
{% endblock %}
""".replace("POLICY", _POLICY)


def viewer_document(spectra: Sequence[DisplaySpectrum], look: Look) -> Document:
    """Return a document with the viewer of one or more spectra; the first is shown first."""
    spectra = [with_gaps(spectrum) for spectrum in spectra]
    rows = _rows(spectra, look)
    store, has = _store(spectra, own_axis=any(row["axis"] == OWN for row in rows))
    others = series_labels(spectra) if look.overplot and len(spectra) > 1 else ()
    parts = build_parts(len(spectra), has, look, others)
    for line in parts["drawn"] if others else ():
        # Noise and model of one spectrum would hide the others: they are shown on request.
        line.visible = line.name == "flux"
    document = Document(title=look.title or _TITLE)
    document.add_root(parts["page"])
    document.js_on_event("document_ready", _behaviour(parts, store, rows, look))
    return document


def viewer_html(spectra: Sequence[DisplaySpectrum], look: Look) -> str:
    """Return a page that contains its scripts, styles and spectra, and loads nothing else."""
    document = viewer_document(spectra, look)
    page: str = file_html(
        document,
        INLINE,
        title=document.title,
        template=_TEMPLATE,
        template_variables={"light": LIGHT.paper, "dark": DARK.paper},
    )
    return page


def _behaviour(
    parts: dict[str, Any], store: ColumnDataSource, rows: list[dict[str, Any]], look: Look
) -> CustomJS:
    """Return the script of the page, with the parts that it acts upon."""
    folder = files(__package__)
    lines = {"emission": EMISSION_LINES, "absorption": ABSORPTION_LINES, "sky_lines": SKY_LINES}
    return CustomJS(
        args=parts
        | {
            "store": store,
            "rows": json.dumps(rows),
            "lines": json.dumps({kind: _pairs(some) for kind, some in lines.items()}),
            "palette": json.dumps({"light": _colours(LIGHT), "dark": _colours(DARK)}),
            "inspection": json.dumps(_inspection(rows, look)),
        },
        code="\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS),
        module=True,
    )


def _inspection(spectra: Sequence[dict[str, Any]], look: Look) -> dict[str, Any]:
    """Return what the script needs for visual inspection."""
    rows = [dict(row) for row in look.inspection or ()]
    # The browser keeps records by this key: a page with the same spectra and rows finds them.
    named = [[row[name] for row in spectra] for name in ("id", "context")]
    of_page = json.dumps([*named, rows])
    return {
        "columns": [asdict(column) for column in INSPECTION_COLUMNS],
        "aliases": ALIASES,
        "qualities": QUALITIES,
        "issues": list(ISSUES),
        "classes": CLASSES,
        "rows": rows,
        "key": f"inspection {sha256(of_page.encode()).hexdigest()[:32]}",
    }


def _pairs(lines: Sequence[SpectralLine]) -> list[tuple[str, float]]:
    return [(line.name, line.wave_aa) for line in lines]


def _colours(theme: Theme) -> dict[str, Any]:
    return asdict(theme) | {"sky_lines": theme.sky}


def _store(
    spectra: Sequence[DisplaySpectrum], *, own_axis: bool
) -> tuple[ColumnDataSource, frozenset[str]]:
    """Return the vectors of all spectra end to end, and the names of vectors to draw.

    ``own_axis``: whether the wavelengths of some are among them.
    """
    ivar = np.concatenate([spectrum.weights for spectrum in spectra])
    flux = np.concatenate([spectrum.flux for spectrum in spectra])
    data = {"flux": np.where(ivar > 0, flux, 0.0), "ivar": ivar}
    for name in ("model", "sky"):
        if any(getattr(spectrum, name) is not None for spectrum in spectra):
            data[name] = np.concatenate([_or_zero(spectrum, name) for spectrum in spectra])
    columns: dict[str, Any] = {name: values.astype(np.float32) for name, values in data.items()}
    if own_axis:
        columns["wave"] = np.concatenate([spectrum.wave for spectrum in spectra]).astype(np.float64)
    has = frozenset(data) - {"ivar"}
    noise = {"noise"} if any(spectrum.ivar is not None for spectrum in spectra) else frozenset()
    return ColumnDataSource(columns), has | noise


def _or_zero(spectrum: DisplaySpectrum, name: str) -> npt.NDArray[Any]:
    values, npix = getattr(spectrum, name), len(spectrum.wave)
    return np.zeros(npix) if values is None else np.nan_to_num(values, posinf=0.0, neginf=0.0)


def _axis(wave: npt.NDArray[np.float64]) -> tuple[int, float, float]:
    """Return the way to store wavelengths, and the first value and step of a lattice."""
    if len(wave) < 2:
        return OWN, 0.0, 0.0
    for kind, values in ((LOG10, np.log10(wave)), (LINEAR, wave)):
        first, step = float(values[0]), float(values[-1] - values[0]) / (len(wave) - 1)
        off = np.abs(values - (first + step * np.arange(len(wave))))
        if float(off.max()) < _LATTICE_PIX * abs(step):
            return kind, first, step
    return OWN, 0.0, 0.0


def _rows(spectra: Sequence[DisplaySpectrum], look: Look) -> list[dict[str, Any]]:
    """Return a row for each spectrum: labels, limits, facts, and its place in the store."""
    starts = np.cumsum([0, *(len(spectrum.wave) for spectrum in spectra[:-1])]).tolist()
    rows = [_row(spectrum, start) for spectrum, start in zip(spectra, starts, strict=True)]
    if look.overplot:
        # Their common axis shows all of them that have good pixels.
        lit = [row for row in rows if row["has_flux"]] or rows
        low, high = min(row["wave_low"] for row in lit), max(row["wave_high"] for row in lit)
        rows = [row | {"wave_low": low, "wave_high": high} for row in rows]
    return rows


def _row(spectrum: DisplaySpectrum, start: int) -> dict[str, Any]:
    """Return the row of a spectrum that begins at ``start`` in the store."""
    axis, first, step = _axis(spectrum.wave)
    facts = dict(spectrum.facts)
    return _limits(spectrum) | {
        "axis": axis,
        "first": first,
        "step": step,
        "id": spectrum.title,
        "name": spectrum.name or spectrum.title,
        "context": facts.get("in", ""),
        "class": facts.get("class", ""),
        "fits": _fits(spectrum),
        "start": start,
        "count": len(spectrum.wave),
        "has_flux": bool(spectrum.weights.any()),
        "has_noise": spectrum.ivar is not None,
        "has_sky": spectrum.sky is not None,
        # Bokeh would read what is between dollar signs as mathematics.
        "flux_label": spectrum.flux_label.replace("$", ""),
        "wave_label": wave_label([spectrum.medium]),
        "rest_label": wave_label([spectrum.medium], rest=True),
        "html": _html(spectrum),
    }


def _fits(spectrum: DisplaySpectrum) -> list[dict[str, Any]]:
    """Return the fits of the survey, the best one first, as the page offers them."""
    has_model = spectrum.model is not None and bool(np.any(spectrum.model))
    best = Fit("best", spectrum.kind, spectrum.z)
    return [
        {
            "text": f"{fit.name}: {fit.about}, {'with' if model else 'no'} template"
            if fit.kind or fit.z is not None
            else "no fit is known",
            "z": 0.0 if fit.z is None else fit.z,
            "known": fit.z is not None,
            "model": model,
        }
        for fit, model in [(best, has_model), *((fit, False) for fit in spectrum.fits)]
    ]


def _limits(spectrum: DisplaySpectrum) -> dict[str, float]:
    """Return the limits that show the spectrum and not its worst pixels."""
    # There is room for names of lines at any redshift.
    flux_low, flux_high = flux_limits(replace(spectrum, z=0.0, lines=EMISSION_LINES))
    wave_low, wave_high = wave_limits(spectrum.wave)
    margin = _MARGIN * (wave_high - wave_low)
    return {
        "flux_low": flux_low,
        "flux_high": flux_high,
        "wave_low": wave_low - margin,
        "wave_high": wave_high + margin,
    }


def _html(spectrum: DisplaySpectrum) -> str:
    """Return name and facts of a spectrum as HTML, escaped."""
    name = spectrum.name or spectrum.title
    said = [f"<b>{escape(name)}</b>"] if name else []
    said += [
        f"<span class='name'>{escape(name)}</span>&nbsp;{escape(value)}"
        for name, value in spectrum.facts
    ]
    return " &ensp; ".join(said)
