"""The parts of the viewer: plot, axes, lines, controls. ``viewer.mjs`` makes them act."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from html import escape
from math import pi
from typing import Any, Final

from bokeh.core.properties import value
from bokeh.model import Model
from bokeh.models import (
    BoxZoomTool,
    Column,
    ColumnDataSource,
    HoverTool,
    InlineStyleSheet,
    Line,
    LinearAxis,
    PanTool,
    Range1d,
    ResetTool,
    Row,
    SaveTool,
    Step,
    VSpan,
    WheelZoomTool,
)
from bokeh.models.annotations import LabelSet, Legend, LegendItem
from bokeh.models.renderers import GlyphRenderer
from bokeh.models.widgets import (
    Button,
    CheckboxButtonGroup,
    Div,
    RadioButtonGroup,
    Slider,
    Spinner,
    Toggle,
)
from bokeh.plotting import figure

from ..style import LIGHT
from .css import PART_CSS, PLOT_CSS, ROW_CSS, STRIP_CSS, page_css
from .panel import build_panel

_HEIGHT_PX: Final = 480
_LEAST_HEIGHT_PX: Final = 340
_LARGEST_Z: Final = 7.0
_Z_STEP: Final = 1e-4
_FINE_Z: Final = 0.02
_LARGEST_SMOOTHING: Final = 15.0
# From the back to the front: column, name in the legend, width, whether it is shown at first.
_DRAWN: Final = (
    ("sky", "sky", 0.8, False),
    ("noise", "1σ noise", 0.9, True),
    ("flux", "flux", 0.9, True),
    ("model", "model", 1.3, True),
)
_LABELS_IN_ROW: Final = 4
_LEGEND: Final = ("flux", "model", "noise", "sky")
_TOOLTIPS: Final = (("wavelength", "@wave{0.00} Å"), ("at rest", "@rest{0.00} Å"))
_LINE_KINDS: Final = (("emission", "dashed"), ("absorption", "dotted"), ("sky_lines", "solid"))
_KIND_LABELS: Final = ("Emission", "Absorption", "Night sky")


@dataclass(frozen=True, slots=True)
class Look:
    """Options of the viewer."""

    title: str = ""
    """A line of text above all, or nothing."""
    width: int | None = None
    """Pixels; None fills the available width."""
    height: int | None = None
    dark: bool = False
    overplot: bool = False
    """Show the other spectra behind the chosen one."""
    inspection: tuple[Mapping[str, str], ...] | None = None
    """Rows of earlier inspections, texts by the names of columns; None: the panel is closed."""


def build_parts(
    nspec: int, has: AbstractSet[str], look: Look, others: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the viewer, empty: the parts that the script acts upon, by the names that it uses.

    Parameters
    ----------
    nspec : number of spectra
    has : vectors that any of them has: ``flux``, ``noise``, ``model``, ``sky``
    others : labels of all spectra, where those that are not chosen are to be seen behind
    """
    sheet = InlineStyleSheet(css=PART_CSS)
    area = _plot_area(has, others, sheet)
    header, controls = _header(nspec, dark=look.dark), _controls(several=bool(others))
    rows = []
    for group in (header, controls):
        for member in group.values():
            member.stylesheets = [sheet]
        row = Row(children=list(group.values()), sizing_mode="stretch_width")
        row.stylesheets = [InlineStyleSheet(css=ROW_CSS)]
        rows.append(row)
    heading = [Div(text=f"<b>{escape(look.title)}</b>", disable_math=True, stylesheets=[sheet])]
    panel = build_panel(sheet)
    panel["panel"].visible = header["inspect"].active = look.inspection is not None
    strip = _strip(visible=nspec > 1 and not others)
    page = Column(
        children=[
            *heading[: bool(look.title)], rows[0], strip, area["plot"], rows[1], panel["panel"],
        ]
    )  # fmt: skip
    page.stylesheets = [InlineStyleSheet(css=page_css())]
    _size(page, area["plot"], look)
    parts = {"page": page, "strip": strip, **header, **area, **controls, **panel}
    for name, part in parts.items():
        if isinstance(part, Model):
            part.name = name
    return parts


def _size(page: Column, plot: figure, look: Look) -> None:
    """Give the page its size, or let it fill the window."""
    page.sizing_mode = "stretch_both" if look.height is None else "stretch_width"
    plot.sizing_mode = page.sizing_mode
    plot.min_height = _LEAST_HEIGHT_PX
    if look.height is not None:
        plot.height = look.height
    if look.width is not None:
        page.max_width = look.width


def _plot_area(
    has: AbstractSet[str], others: Sequence[str], sheet: InlineStyleSheet
) -> dict[str, Any]:
    """Return the plot, empty, and its parts that change."""
    plot, rest_range = _plot(sheet)
    # The first lines lie behind the others.
    sources = {kind: ColumnDataSource({"x": []}) for kind, _ in _LINE_KINDS}
    marks = [_marks(plot, sources[kind], kind, dash) for kind, dash in _LINE_KINDS]
    names = ("wave", "rest", "name", *(drawn for drawn, *_ in _DRAWN))
    shown = ColumnDataSource({name: [] for name in names})
    behind, legend = _draw_others(plot, others, sheet)
    return {
        "plot": plot,
        "rest_range": rest_range,
        "grids": list(plot.grid),
        "shown": shown,
        # A line for each spectrum, behind the selected one, and their names in the legend.
        "others": behind,
        "names": legend,
        "drawn": _draw(plot, shown, has, sheet, own_name=not others),
        "pointer": _point(plot, shown, has, several=bool(others)),
        "marks": marks,
        **sources,
        # Names of lines at the top of the plot, and at its bottom.
        "above": _labels(plot, "right"),
        "below": _labels(plot, "left"),
    }


def _plot(sheet: InlineStyleSheet) -> tuple[figure, Range1d]:
    """Return the empty plot, and the range of its axis at rest."""
    wheel = WheelZoomTool(
        dimensions="width", maintain_focus=False, description="Wheel Zoom in wavelength"
    )
    pan = PanTool()
    both = WheelZoomTool(dimensions="both", description="Wheel Zoom in both")
    tools = [pan, BoxZoomTool(), wheel, both, ResetTool(), SaveTool()]
    # mypy knows the properties of Plot alone, not these options of figure.
    options: Any = {"tools": tools, "y_axis_label": "flux density"}
    plot = figure(
        x_range=Range1d(start=0.0, end=1.0),
        y_range=Range1d(start=0.0, end=1.0),
        toolbar_location="right",
        height=_HEIGHT_PX,
        **options,
    )
    plot.toolbar.active_scroll = wheel
    plot.toolbar.active_drag = pan
    plot.toolbar.logo = None
    plot.stylesheets = [InlineStyleSheet(css=PLOT_CSS)]
    plot.toolbar.stylesheets = [sheet]
    rest_range = Range1d(start=0.0, end=1.0)
    plot.extra_x_ranges = {"rest": rest_range}
    plot.add_layout(LinearAxis(x_range_name="rest"), "above")
    for axis in plot.axis:
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = "13px"
        axis.major_label_text_font_size = "12px"
        axis.major_tick_in, axis.minor_tick_in = 6, 3
        axis.major_tick_out = axis.minor_tick_out = 0
    return plot, rest_range


def _draw(
    plot: figure,
    shown: ColumnDataSource,
    has: AbstractSet[str],
    sheet: InlineStyleSheet,
    *,
    own_name: bool,
) -> "list[GlyphRenderer[Any]]":
    """Draw the vectors as steps, with a legend that hides them; return the lines.

    ``own_name``: whether the flux is in the legend.
    """
    drawn: list[GlyphRenderer[Any]] = []
    items = {}
    for name, label, line_width, visible in _DRAWN:
        if name not in has:
            continue
        shape = Line(x="wave", y=name) if name == "model" else Step(x="wave", y=name, mode="center")
        shape.line_width = line_width
        line: GlyphRenderer[Any] = plot.add_glyph(shown, shape)
        line.name, line.visible = name, visible
        drawn.append(line)
        items[name] = LegendItem(label=label, renderers=[line])
    if not own_name:
        del items["flux"]
    if items:
        _add_legend(plot, [items[name] for name in _LEGEND if name in items], sheet)
    return drawn


def _point(
    plot: figure, shown: ColumnDataSource, has: AbstractSet[str], *, several: bool
) -> "GlyphRenderer[Any]":
    """Add a tooltip with the values of a pixel, and the spectrum's name where there are several."""
    # Steps do not react to the pointer, and the flux may be hidden: an invisible line reacts.
    ghost: GlyphRenderer[Any] = plot.add_glyph(shown, Line(x="wave", y="flux", line_alpha=0.0))
    values = [name for name in ("flux", "noise", "model", "sky") if name in has]
    labels = {name: label for name, label, *_ in _DRAWN}
    name = [("spectrum", "@name")] if several else []
    plot.add_tools(
        HoverTool(
            renderers=[ghost],
            mode="vline",
            line_policy="nearest",
            tooltips=[*name, *_TOOLTIPS, *((labels[v], f"@{v}{{0.000}}") for v in values)],
            attachment="horizontal",
        )
    )
    return ghost


def _draw_others(
    plot: figure, labels: Sequence[str], sheet: InlineStyleSheet
) -> "tuple[list[GlyphRenderer[Any]], list[LegendItem]]":
    """Draw the flux of each spectrum as a line of its own, with a legend that hides them."""
    drawn: list[GlyphRenderer[Any]] = []
    for label in labels:
        shape = Step(x="wave", y="flux", mode="center", line_width=0.9)
        line: GlyphRenderer[Any] = plot.add_glyph(ColumnDataSource({"wave": [], "flux": []}), shape)
        line.name = label
        drawn.append(line)
    items = [LegendItem(label=value(line.name), renderers=[line]) for line in drawn]
    if items:
        _add_legend(plot, items, sheet).ncols = _LABELS_IN_ROW
    return drawn, items


def _add_legend(plot: figure, items: list[LegendItem], sheet: InlineStyleSheet) -> Legend:
    """Add a legend above the plot; a click on a name hides its line."""
    legend = Legend(
        items=items,
        orientation="horizontal",
        click_policy="hide",
        location="left",
        background_fill_alpha=0.0,
        border_line_alpha=0.0,
        inactive_fill_alpha=0.0,
        margin=2,
        spacing=14,
        label_text_font_size="13px",
        stylesheets=[sheet],
    )
    legend.update(padding=0)
    plot.add_layout(legend, "above")
    return legend


def _marks(plot: figure, source: ColumnDataSource, kind: str, dash: str) -> "GlyphRenderer[Any]":
    """Draw the marks of one kind of lines."""
    glyph = VSpan(x="x", line_dash=dash, line_alpha=0.75, line_width=1)
    marks = plot.add_glyph(source, glyph)
    marks.tags = [kind]
    return marks


def _labels(plot: figure, align: str) -> ColumnDataSource:
    """Return the source of the names of lines at one edge of the plot."""
    source = ColumnDataSource({"x": [], "y": [], "name": [], "colour": []})
    plot.add_layout(
        LabelSet(
            source=source,
            x="x",
            y="y",
            y_units="screen",
            text="name",
            text_color="colour",
            text_font_size="11px",
            angle=pi / 2,
            text_align=align,
            text_baseline="bottom",
            x_offset=-1,
            background_fill_color=LIGHT.paper,
            background_fill_alpha=0.7,
        )
    )
    return source


def _header(nspec: int, *, dark: bool) -> dict[str, Any]:
    """Return the row above the plot: number of the spectrum, from 1, facts, colours."""
    many = nspec > 1
    return {
        "previous": Button(label="◀ previous (p)", visible=many, width=100),
        "place": Spinner(value=1, low=1, high=nspec, step=1, width=64, visible=many),
        "of": Div(text=f"of {nspec:,}", visible=many),
        "next": Button(label="next (n) ▶", visible=many, width=100),
        "info": Div(text="", disable_math=True, sizing_mode="stretch_width", min_width=260),
        "inspect": Toggle(label="Inspect (i)", width=90),
        "dark": Toggle(label="Dark", active=dark, width=60),
    }


def _strip(*, visible: bool) -> Div:
    """Return the place of the thumbnails."""
    strip = Div(text="", visible=visible, sizing_mode="stretch_width")
    strip.stylesheets = [InlineStyleSheet(css=STRIP_CSS)]
    return strip


def _controls(*, several: bool) -> dict[str, Any]:
    """Return the row below the plot: smoothing, redshift, kinds of lines, scale of several."""
    return {
        "smoothing": Slider(
            title="Smoothing, σ in pixels",
            start=0.0,
            end=_LARGEST_SMOOTHING,
            step=0.5,
            value=0.0,
            format="0.0",
            width=160,
        ),
        "kernel": RadioButtonGroup(labels=["Gaussian", "Boxcar"], active=0, width=145),
        "coarse": Slider(
            title="Redshift",
            start=-0.01,
            end=_LARGEST_Z,
            step=10 * _Z_STEP,
            value=0.0,
            format="0.000",
            width=200,
        ),
        "fine": Slider(
            title="fine",
            start=-_FINE_Z,
            end=_FINE_Z,
            step=_Z_STEP / 2,
            value=0.0,
            format="+0.00000",
            width=140,
        ),
        "number": Spinner(title="z", value=0.0, step=_Z_STEP, low=-0.1, width=95, format="0.00000"),
        "given": Button(label="z as given", width=75),
        "kinds": CheckboxButtonGroup(labels=list(_KIND_LABELS), active=[0, 1], width=235),
        "scaling": RadioButtonGroup(
            labels=["Flux as it is", "Scaled to the selected"], active=0, visible=several, width=245
        ),
    }
