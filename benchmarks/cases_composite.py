"""Composite spectra: against reading the vectors that they are made of."""

import warnings
from typing import Any, Final, Literal

import numpy as np

from specserver.service.composite import StackLimits, StackRequest

from .bench import Bench, Ids
from .cases import case
from .data import CONTEXT
from .measure import FEWEST_ROUNDS, Trial, Unequal

_CHECKED: Final = 200
_LIMITS: Final = StackLimits(2**18, 0)
_CLOSE: Final = 1e-4


@case(
    "composite",
    "stack of {stack:,} random spectra, mean at rest",
    reference="reading flux and ivar of the same {stack:,} in process",
    target=1.4,
    limits="memory: flux and ivar of each batch are moved, weighed and summed",
)
def composite(bench: Bench) -> Trial:
    def select(ids: Ids) -> Any:
        return bench.service.resolve([int(one) for one in ids], CONTEXT)

    def stack(ids: Ids, frame: Literal["rest", "observed"] = "rest") -> Any:
        with warnings.catch_warnings():
            # Some fibres saw nothing, and are named.
            warnings.simplefilter("ignore")
            return bench.client.stack(ids, frame)

    def inside(ids: Ids) -> Any:
        stacking = bench.service.composite(select(ids), StackRequest(), _LIMITS)
        for _ in stacking:
            pass
        return stacking.result

    def read(ids: Ids) -> int:
        _, _, blocks = bench.service.read_aligned(select(ids), ["flux", "ivar"])
        return sum(len(block) for block in blocks)

    def check(ids: Ids) -> None:
        few = ids[:_CHECKED]
        made = stack(few, "observed")
        spectra = bench.client.getSpec(few, values="flux,ivar,loglam", align=True)
        good = spectra["ivar"] > 0
        count = good.sum(0)
        lit = np.flatnonzero(count)
        here = slice(int(lit[0]), int(lit[-1]) + 1)
        total = np.where(good, spectra["flux"], 0).sum(0, dtype=np.float64)[here]
        mean = total / np.maximum(count[here], 1)
        some = made.count > 0
        if not np.array_equal(made.count, count[here]) or not np.allclose(
            made.flux[some], mean[some], rtol=_CLOSE, atol=_CLOSE
        ):
            raise Unequal("the composite is not the mean of the spectra")

    return Trial(
        lambda: bench.draw(bench.scale.stack),
        stack,
        read,
        check,
        in_process=inside,
        rounds=FEWEST_ROUNDS,
    )
