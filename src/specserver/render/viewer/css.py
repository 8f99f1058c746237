"""Style sheets of the viewer: colours, and rows that break in a narrow window."""

from typing import Final

from ..style import DARK, LIGHT, Theme

# Every part of Bokeh has its own style sheet; variables of the page reach all of them.
PART_CSS: Final = """
:host {
  --color: var(--viewer-ink); --background-color: var(--viewer-paper);
  --hover-color: var(--viewer-faint); --surface-background-color: var(--viewer-faint);
  --border-color: var(--viewer-edge); --divider-color: var(--viewer-faint);
  --inactive-bg: var(--viewer-faint); --disabled-background-color: var(--viewer-faint);
  --icon-color: var(--viewer-edge); --inverted-color: var(--viewer-paper);
  --default: var(--viewer-paper); --default-border: var(--viewer-edge);
  --default-hover: var(--viewer-faint); --default-hover-border: var(--viewer-edge);
  --default-active: var(--viewer-faint); --default-active-border: var(--viewer-edge);
  --default-disabled: var(--viewer-paper); --default-disabled-border: var(--viewer-edge);
  color: var(--viewer-ink);
}
.bk-btn-default { color: var(--viewer-ink); }
.bk-btn-default.bk-active { font-weight: bold; }
.bk-btn-default[disabled] { opacity: 0.4; }
.bk-input { color: var(--viewer-ink); }
::file-selector-button {
  color: var(--viewer-ink); background: var(--viewer-paper); border: 1px solid var(--viewer-edge);
}
.name { opacity: 0.7; }
.bk-item.bk-inactive { opacity: 0.45; text-decoration: line-through; }
"""
# Bokeh paints from the middle of the first pixel, so two edges keep half of the old colour.
PLOT_CSS: Final = """
:host::before, :host::after {
  content: ""; position: absolute; z-index: 1; top: 0; left: 0; pointer-events: none;
  background: var(--viewer-paper);
}
:host::before { width: 1px; height: 100%; }
:host::after { width: 100%; height: 1px; }
"""
ROW_CSS: Final = ":host { flex-wrap: wrap; gap: 2px 10px; align-items: flex-end; }"
# Thumbnails, each with quality and issues in a corner; the part's own text is empty and hidden.
STRIP_CSS: Final = """
.bk-clearfix { display: none !important; }
.strip { display: flex; gap: 3px; overflow-x: auto; padding: 1px; scrollbar-width: thin; }
.strip button {
  position: relative; flex: none; padding: 0; border: 1px solid var(--viewer-faint);
  background: var(--viewer-paper); cursor: pointer;
}
.strip button.shown { border-color: var(--viewer-ink); outline: 1px solid var(--viewer-ink); }
.strip canvas { display: block; width: 92px; height: 40px; }
.strip button::after {
  content: attr(data-said); position: absolute; top: 0; right: 2px; font-weight: bold;
  color: var(--viewer-ink);
}
"""


def page_css() -> str:
    """Return the colours of the page and of its parts."""

    def variables(theme: Theme) -> str:
        edge = "color-mix(in srgb, " + theme.ink + " 45%, " + theme.paper + ")"
        return (
            f"--viewer-paper: {theme.paper}; --viewer-ink: {theme.ink};"
            f" --viewer-faint: {theme.faint}; --viewer-edge: {edge};"
        )

    return (
        f":host {{ {variables(LIGHT)} background: var(--viewer-paper); padding: 4px 8px;"
        f" gap: 2px; }} :host(.dark) {{ {variables(DARK)} color-scheme: dark; }}"
    )
