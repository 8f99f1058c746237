"""The panel of visual inspection, below the plot."""

from typing import Any, Final

from bokeh.models import Column, InlineStyleSheet, Row
from bokeh.models.widgets import (
    Button,
    CheckboxButtonGroup,
    Div,
    FileInput,
    RadioButtonGroup,
    Select,
    Spinner,
    TextInput,
)

from ..inspection import CLASSES, ISSUES, QUALITIES
from .css import ROW_CSS

# Margins in pixels: top, right, bottom, left.
_ABOVE: Final = (2, 5, 0, 5)
_BELOW: Final = (3, 5, 5, 5)
_KEYS: Final = (
    "0–4 quality &ensp; g q s class &ensp; R C S issue &ensp; z take the redshift &ensp; c comment"
    " &ensp; f next fit &ensp; u next without quality &ensp; n p next, previous &ensp; i panel"
)


def build_panel(sheet: InlineStyleSheet) -> dict[str, Any]:
    """Return the parts of the panel by the names that the script uses; ``panel`` holds them."""
    groups = {
        "quality": RadioButtonGroup(labels=[text[0] for text in QUALITIES], width=170),
        "spectype": RadioButtonGroup(labels=list(CLASSES), width=200),
        "issues": CheckboxButtonGroup(labels=[f"{key} {text}" for key, text in ISSUES.items()]),
    }
    said = {
        "corrected": Spinner(title="corrected z", step=1e-4, width=105, format="0.00000"),
        "take": Button(label="take z (z)", width=90),
        "comment": TextInput(title="comment (c)", width=250),
    }
    kept = {
        "fits": Select(title="fits of the survey (f)", width=410),
        "scanner": TextInput(title="your name", width=90),
        "csv": Button(label="save CSV", width=80),
        "ecsv": Button(label="save ECSV", width=85),
        "load": FileInput(title="read a CSV or ECSV file", accept=".csv,.ecsv", width=240),
    }
    labels = [Div(text=label, margin=_ABOVE) for label in ("quality", "class", "issue")]
    for group in groups.values():
        group.margin = _BELOW
    titled = [Column(children=list(pair)) for pair in zip(labels, groups.values(), strict=True)]
    rows = [Row(children=[*titled, *said.values()]), Row(children=list(kept.values()))]
    for row in rows:
        row.update(sizing_mode="stretch_width", stylesheets=[InlineStyleSheet(css=ROW_CSS)])
    texts = Div(text=""), Div(text=f"<span class='name'>{_KEYS}</span>")
    for text in texts:
        text.update(disable_math=True, sizing_mode="stretch_width", margin=_ABOVE)
    for part in [*labels, *groups.values(), *said.values(), *kept.values(), *texts]:
        part.stylesheets = [sheet]
    panel = Column(children=[*rows, *texts], visible=False, sizing_mode="stretch_width")
    return {"panel": panel, "progress": texts[0], **groups, **said, **kept}
