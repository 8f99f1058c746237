"""Messages of the client in the words of the command line: options in place of parameters."""

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any, Final

import typer

from ..errors import RESAMPLE, SKIP, SpecServerError, SpecServerWarning

_FLAGS: Final = {
    RESAMPLE: "get --resample",
    SKIP: "--skip-missing",
    "fits='rebuilt'": "--rebuilt",
    "align='resample'": "--resample",
    "align=True": "--align",
    "align=False": "--no-align",
    "primary=False": "--all",
    "set_svc_url()": "--url",
    "token=, set_token()": "--token",
    "timeout=": "timeout= of the Python client",
    "id_col='…'": "id_col='…' of the Python client",
    "spec.catalogs(fmt='json')": "'specserver catalogs --json'",
    "composite.skipped": "composite.skipped of the Python client",
    "plotGrid": "grid",
    "vos.ls()": "'specserver vos ls'",
    "vos.rm(name)": "'specserver vos rm NAME'",
}
"""Parameters with a value that an option without one stands for, and functions."""
_NAMES: Final = {
    "constraint": "--where",
    "id_list": "ID",
    "ids": "ID",
    "spec": "ID",
    "positions": "FILE",
    "size": "--cone",
}
"""Parameters whose options or arguments have another name."""
_BARE: Final = re.compile(r"[\w./:,+-]+")
_SETTING: Final = re.compile(r"([\w-]+)[= ](.*)", re.DOTALL)


def in_options(said: SpecServerError | SpecServerWarning, app: typer.Typer) -> str:
    """Return the message of an error or a warning with the options of the commands of ``app``."""
    text = str(said.args[0]) if said.args else ""
    for setting in sorted(said.settings, key=len, reverse=True):
        text = text.replace(setting, _option(setting, app))
    return text


def _option(setting: str, app: typer.Typer) -> str:
    """Return the option, with its value, for a parameter as a message names it."""
    if setting in _FLAGS:
        return _FLAGS[setting]
    parts = _SETTING.fullmatch(setting)
    if parts is None:
        return setting
    name, value = parts[1], parts[2]
    option = _NAMES.get(name, f"--{name.replace('_', '-')}")
    if option.startswith("--") and option not in _options_of(app):
        option = name
    with suppress(ValueError, SyntaxError):
        given = ast.literal_eval(value)
        # Quotes of Python are those of a shell, too.
        value = "" if given is None else str(given) if _BARE.fullmatch(str(given)) else value
    return f"{option} {value}".rstrip()


@cache
def _options_of(app: typer.Typer) -> frozenset[str]:
    """Return the options of all commands."""
    return frozenset(_walk(typer.main.get_command(app)))


def _walk(command: Any) -> Iterator[str]:
    """Yield the options of a command and of those below it."""
    for parameter in command.params:
        yield from parameter.opts
    for below in getattr(command, "commands", {}).values():
        yield from _walk(below)
