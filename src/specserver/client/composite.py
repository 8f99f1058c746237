"""Composite spectra as a user calls for them: identifiers in, one spectrum out."""

from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import BadParameter, StoreError
from ..ops.composite import StackRequest
from ..ops.media import read_medium
from .inputs.context_ids import read_some_ids
from .messages import sum_up, warn, warn_left_out
from .progress import Watch
from .request import Cutout, RequestOptions, read_cutout, some_number, whole_number
from .session import HasSession
from .spectra import ids_request

if TYPE_CHECKING:
    from .composite_spectrum import CompositeSpectrum


def stack(
    client: HasSession,
    id_list: Any,
    frame: Literal["rest", "observed"] = "rest",
    method: Literal["mean", "median", "ivar"] = "mean",
    norm: Cutout = None,
    sigma_clip: float | None = None,
    context: str | None = None,
    profile: str | None = None,
    *,
    z: Any = None,
    assume_medium: Literal["vacuum", "air"] | None = None,
    wave: Cutout = None,
    step: float | None = None,
    maxiters: int = 3,
    id_col: str | None = None,
    missing: Literal["error", "skip"] = "error",
    timeout: float | None = None,
    token: str | None = None,
    debug: bool = False,
    verbose: bool = False,
) -> "CompositeSpectrum":
    """Combine any number of spectra into one, on the server.

    Pixels without information (``ivar == 0``, and the survey's bad bits) do not count. Flux
    density stays as observed: moved to rest, it is not multiplied by 1 + z.

    Parameters
    ----------
    id_list
        Identifiers in any form, as in `getSpec`.
    frame
        ``rest`` divides wavelengths by 1 + z, ``observed`` leaves them.
    method
        ``mean``, ``median``, or ``ivar``: the mean weighted by inverse variance.
    norm
        ``'5100-5200'`` or a pair, vacuum Å of the frame: each spectrum is divided by its mean
        there (with ``median``: its median); one without half of its pixels there, or whose
        level is not positive, is left out.
    sigma_clip
        Leave out values further from the median of their pixel, in standard deviations by
        the median absolute deviation; None: none.
    z
        A redshift for each spectrum, or one for all; by default the catalogue's. A spectrum
        whose redshift is not known (NaN), or -1 or less, is left out.
    assume_medium
        Medium of spectra whose medium is not known, ``vacuum`` or ``air``. Those in air are
        converted to vacuum (Ciddor 1996); without this, spectra whose medium is not known
        are combined with no others.
    wave
        Ends of the composite, vacuum Å of the frame; by default what the spectra reach.
    step
        Step of log10 wavelength; by default the survey's lattice, or 1e-4 at rest where
        that lattice is linear.
    maxiters
        Times that values are left out, at most.
    missing
        ``skip`` combines what was found and can be read, and warns of the rest.
    timeout
        Seconds of silence after which to give up.

    Returns
    -------
    CompositeSpectrum
        With ``wavelength``, ``flux``, ``error`` (by variance), ``error_bootstrap``, ``count``,
        ``nspec``, ``unit``, ``skipped`` and ``meta``; shows itself in a notebook.

    Examples
    --------
    >>> quasars = spec.query(constraint="class = 'QSO' and z > 2 order by z limit 20")
    >>> spec.stack(quasars)
    <CompositeSpectrum of 20 spectra (mean, rest), 1158–3456 Å>
    """
    session = client.session
    options = RequestOptions(context, profile, missing, timeout, token, debug, verbose)
    named = read_some_ids(session, id_list, id_col, options, "stack")
    how: dict[str, Any] = {
        "frame": frame,
        "method": method,
        "norm": read_cutout("norm", norm),
        "sigma_clip": some_number("sigma_clip", sigma_clip),
        "maxiters": whole_number("maxiters", maxiters),
        "wave": read_cutout("wave", wave),
        "step": some_number("step", step),
        "z": _redshifts(z),
        "assume_medium": read_medium("assume_medium", assume_medium),
    }
    StackRequest(**how)  # refuses values that have no meaning
    body = ids_request(session, named, options) | how
    began = perf_counter()
    with (
        session.ask("bulk/stack", body, options) as answer,
        Watch("combined") as watch,
    ):
        made = _read(answer, watch)
    warn_left_out(made.meta["missing"], made.meta.get("damaged", ()), len(named.ids))
    _warn_skipped(made)
    _warn_unweighted(made)
    sum_up(options, f"{made.nspec:,} spectra combined", began)
    return made


def _redshifts(given: Any) -> list[float | None] | None:
    """Return redshifts as JSON has them: an unknown one is null."""
    if given is None:
        return None
    try:
        values = np.ma.filled(np.ma.atleast_1d(np.ma.asarray(given, np.float64)), np.nan)
    except (TypeError, ValueError) as error:
        raise BadParameter("z", given, "a redshift for each spectrum, or one for all") from error
    if values.ndim != 1:
        raise BadParameter("z", values.shape, "a redshift for each spectrum, or one for all")
    return [value if np.isfinite(value) else None for value in values.tolist()]


def _read(source: Any, watch: Watch) -> "CompositeSpectrum":
    """Read the answer to its end, and show the progress of the service."""
    from ..wire.batches import ANSWER, open_answer, read_batches
    from ..wire.composite import DONE, CompositeEnd, CompositeHead
    from ..wire.head import from_metadata

    last: Any = None
    end: CompositeEnd | None = None
    try:
        with open_answer(source) as reader:
            head = CompositeHead.from_json(from_metadata(reader.schema.metadata))
            for batch, said in read_batches(reader):
                if DONE in said:
                    watch(said[DONE], head.nspec)
                else:
                    last, end = batch, CompositeEnd.from_json(said)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(ANSWER, f"damaged ({error!r})") from error
    if end is None:
        raise StoreError(ANSWER, "cut off before the composite came; ask again")
    from ..wire.numeric import view
    from .composite_spectrum import CompositeSpectrum

    columns = {
        name: np.array(view(column))
        for name, column in zip(last.schema.names, last.columns, strict=True)
    }
    return CompositeSpectrum(
        **columns,
        nspec=end.nused,
        unit=end.unit,
        skipped={reason: tuple(map(_named, ids)) for reason, (_, ids) in end.skipped.items()},
        meta=head.to_json()
        | {"skipped": {reason: count for reason, (count, _) in end.skipped.items()}},
    )


def _named(text: str) -> int | tuple[str, int]:
    """Return an identifier, after its context where the answer says it."""
    context, _, number = text.rpartition(":")
    return (context, int(number)) if context else int(number)


def _warn_unweighted(made: "CompositeSpectrum") -> None:
    """Warn of spectra without uncertainties, which all count alike."""
    if not made.weighted:
        text = "some or all spectra state no uncertainties: all pixels count alike, error is NaN"
        if made.meta["method"] == "ivar":
            text += "; the mean is not weighted"
        warn(text)


def _warn_skipped(made: "CompositeSpectrum") -> None:
    """Warn of spectra that do not count."""
    counts = made.meta["skipped"]
    if counts:
        why = ", ".join(f"{count:,} with {reason}" for reason, count in counts.items())
        warn(f"left out of the composite: {why}; see composite.skipped", "composite.skipped")
