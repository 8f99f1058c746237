"""Errors that leave the package show the caller's own line and the message, not our frames."""

from collections.abc import Callable
from functools import wraps
from inspect import isfunction
from typing import ParamSpec, TypeVar

from .errors import BadArguments, SpecServerError

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)


def short(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function with short tracebacks: they show the caller's frames and one of ours.

    The cause of an error stays its ``__context__``, with all frames. Called with ``debug=True``,
    the function hides nothing. Errors of other classes are faults, and keep every frame.
    """

    @wraps(function)
    def called(*args: P.args, **keywords: P.kwargs) -> R:
        __tracebackhide__ = True
        try:
            return function(*args, **keywords)
        except (SpecServerError, KeyboardInterrupt) as error:
            if keywords.get("debug"):
                raise
            raise error.with_traceback(None) from None
        except TypeError as error:
            # Python refuses the arguments: not a line of the function has run.
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise
            raise BadArguments(str(error)) from None

    return called


def short_methods(cls: C) -> C:
    """Make the tracebacks of a class' public methods short."""
    for name, method in list(vars(cls).items()):
        if isfunction(method) and not name.startswith("_"):
            setattr(cls, name, short(method))
    return cls
