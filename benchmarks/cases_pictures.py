"""Pictures: against matplotlib, and against the spectra that they show."""

from io import BytesIO
from typing import Any, Final

import numpy as np

from .bench import Bench, Ids
from .cases import case
from .measure import FEWEST_ROUNDS, Trial, Unequal

_PREVIEWS: Final = 10
"""Previews of one measurement, each of another spectrum."""
_DPI: Final = 100


@case(
    "preview",
    "preview, cold",
    reference="a plain matplotlib figure of the same spectrum, saved as PNG",
    target=0.2,
    limits="drawing and compressing the PNG",
)
def preview(bench: Bench) -> Trial:
    width, height = _size(bench.client.preview(bench.draw(1)[0], fmt="raw"))
    unseen = [bench.rng.permutation(bench.library.ids)]

    def draw() -> Any:
        # Never one that was drawn before: nothing of it may be kept anywhere.
        ids, unseen[0] = unseen[0][:_PREVIEWS], unseen[0][_PREVIEWS:]
        return ids, bench.load(ids)

    def ours(subject: Any) -> list[bytes]:
        return [bench.client.preview(one, fmt="raw") for one in subject[0]]

    def theirs(subject: Any) -> list[bytes]:
        return [_figure(one, width, height) for one in subject[1]]

    def check(subject: Any) -> None:
        sizes = {_size(one) for one in (*ours(subject), *theirs(subject))}
        if sizes != {(width, height)}:
            raise Unequal(f"pictures of {sizes}")

    note = f"{width} × {height} pixels"
    return Trial(draw, ours, theirs, check, _PREVIEWS, _PREVIEWS, note=note)


@case(
    "grid",
    "plotGrid {grid} × {grid}",
    reference="a preview of each",
    target=0.5,
    limits="drawing; the requests are what it saves",
)
def grid(bench: Bench) -> Trial:
    side = bench.scale.grid

    def ours(ids: Ids) -> Any:
        return bench.client.plotGrid(ids, side, side, fmt="raw")

    def previews(ids: Ids) -> list[Any]:
        return [bench.client.preview(one, fmt="raw") for one in ids]

    return Trial(lambda: bench.draw(side * side), ours, previews)


@case(
    "stack",
    "stackedImage of {many:,}",
    reference="aligned flux of the same {many:,} through the service",
    target=1.5,
    limits="compressing the PNG",
)
def stack(bench: Bench) -> Trial:
    def ours(ids: Ids) -> Any:
        return bench.client.stackedImage(ids, fmt="raw", align=True)

    def flux(ids: Ids) -> Any:
        return bench.client.getSpec(ids, values="flux", align=True)

    def check(ids: Ids) -> None:
        array = bench.client.stackedImage(ids, fmt="numpy", align=True)
        if not np.array_equal(array, flux(ids)["flux"]):
            raise Unequal("the rows of the image are not the spectra")

    return Trial(lambda: bench.draw(bench.scale.many), ours, flux, check)


@case(
    "stack_large",
    "stackedImage of {stack:,}, per spectrum",
    reference="the same for {many:,}",
    target=1.1,
    limits="reading the fluxes; the picture itself is not larger",
)
def stack_large(bench: Bench) -> Trial:
    most, many = bench.scale.stack, bench.scale.many

    def image(ids: Ids) -> Any:
        return bench.client.stackedImage(ids, fmt="raw", align=True)

    return Trial(
        lambda: bench.draw(most),
        image,
        lambda ids: image(ids[:many]),
        ours_per=most,
        reference_per=many,
        rounds=FEWEST_ROUNDS,
    )


def _figure(spectrum: Any, width: int, height: int) -> bytes:
    """Return a plain figure of flux over wavelength as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(10.0 ** spectrum["loglam"], spectrum["flux"])
    axes.set_xlabel("wavelength [Å]")
    axes.set_ylabel("flux")
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _size(png: bytes) -> tuple[int, int]:
    """Return width and height of a PNG, from its first chunk."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
