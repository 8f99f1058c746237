"""What a caller sees of an error: the message and the line that called, not our frames.

IPython shows the same frames, with some lines around each.
"""

import inspect
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Unpack, get_origin

import pytest

import specserver
from specserver import specClient
from specserver.client.api import SpecClient
from specserver.errors import BadArguments, BadParameter, SpecServerError, StoreError, Unreachable

NOWHERE = "http://127.0.0.1:9/spec"


def raised(call: Callable[[], Any]) -> tuple[SpecServerError, list[str]]:
    """Return the error of a call, and the lines that Python prints of it."""
    with pytest.raises(SpecServerError) as caught:
        call()
    return caught.value, "".join(traceback.format_exception(caught.value)).splitlines()


@pytest.mark.parametrize(
    "call",
    [
        lambda spec: spec.query(constraint="limit 3"),  # asked of a service that is down
        lambda spec: spec.getSpec(["a-b"]),
        lambda spec: spec.getSpec(5, cutout="a-b"),
        lambda spec: spec.query(1, 2, 3, "z > 1", "f", "c", "p", "q"),
        lambda spec: spec.preview(),
        lambda spec: spec.vos.ls(),
        lambda spec: spec.set_context("x"),
        lambda _: specClient.to_Table([1, 2]),
        lambda _: specClient.airtovac(5 * __import__("astropy.units").units.s),
        lambda _: specClient.unpack_specobjid([1.5]),
    ],
    ids=lambda call: inspect.getsource(call).strip().split(": ", 1)[1],
)
def test_an_error_shows_its_message_and_the_callers_line(call: Callable[[Any], Any]) -> None:
    error, lines = raised(lambda: call(SpecClient(svc_url=NOWHERE)))
    files = [Path(frame.filename).name for frame in traceback.extract_tb(error.__traceback__)]
    assert [name for name in files if name != Path(__file__).name] == ["tracebacks.py"]
    assert not [line for line in lines if "During handling" in line or "direct cause" in line]
    assert len(lines) <= 14
    assert str(error) in lines[-1]


def test_the_cause_stays_within_reach() -> None:
    error, _ = raised(lambda: SpecClient(svc_url=NOWHERE).query(constraint="limit 3"))
    assert type(error) is Unreachable
    cause = error.__context__
    assert type(cause).__module__ == "urllib3.exceptions"
    assert len(traceback.extract_tb(cause.__traceback__)) > 3
    debugged, lines = raised(lambda: SpecClient(svc_url=NOWHERE).query(1, 2, 3, debug=True))
    assert debugged.__cause__ is not None
    assert len(lines) > 50


def test_arguments_that_do_not_go_together_are_errors_of_two_kinds() -> None:
    error, _ = raised(lambda: SpecClient(svc_url=NOWHERE).query(1, 2, 3, ra=1))
    assert type(error) is BadArguments
    assert isinstance(error, TypeError)
    client = SpecClient(svc_url=NOWHERE)
    with pytest.raises(TypeError, match="colour"):
        client.query(1, 2, 3, colour="red")
    for call in (client.preview, client.plotGrid, client.plot, client.stack):
        error, lines = raised(lambda call=call: call(1, colour="red"))
        assert type(error) is BadArguments
        assert "colour" in lines[-1]
    error, _ = raised(client.getSpec)
    assert type(error) is BadArguments


def test_a_data_folder_and_an_interrupt_are_short_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, lines = raised(lambda: specserver.open(tmp_path / "none"))
    assert isinstance(error, StoreError)
    assert len(lines) <= 14

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("specserver.client.pools.send", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        SpecClient(svc_url=NOWHERE).query(1, 2, 3)
    assert len(traceback.extract_tb(caught.value.__traceback__)) == 2


def test_other_errors_keep_all_their_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a fault of this package every frame is wanted."""

    def fail(*_: object, **__: object) -> None:
        raise ValueError(os.name)

    monkeypatch.setattr("specserver.client.pools.send", fail)
    with pytest.raises(ValueError, match=os.name) as caught:
        SpecClient(svc_url=NOWHERE).query(1, 2, 3)
    assert len(traceback.extract_tb(caught.value.__traceback__)) > 5


# --- signatures -------------------------------------------------------------------------------


def public() -> dict[str, Callable[..., Any]]:
    """Return the documented functions and methods by name."""
    given = {name: getattr(specClient, name) for name in specClient.__all__ if name != "vos"}
    given |= {f"vos.{name}": getattr(specClient.vos, name) for name in dir(specClient.vos)}
    return {name: call for name, call in given.items() if "._" not in name}


@pytest.mark.parametrize("name", public())
def test_a_signature_names_every_parameter(name: str) -> None:
    """As ``help()``, editors and the Tab key of a notebook show it."""
    signature = inspect.signature(public()[name])
    # A group of keywords declares each of them (PEP 692).
    kinds = {
        parameter.kind
        for parameter in signature.parameters.values()
        if get_origin(parameter.annotation) is not Unpack
    }
    assert not kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    assert inspect.getdoc(public()[name])


def test_help_on_a_query_shows_the_position_first() -> None:
    names = list(inspect.signature(specClient.query).parameters)
    assert names[:7] == ["ra", "dec", "size", "constraint", "out", "context", "profile"]


def test_a_parameter_of_the_wrong_value_is_named() -> None:
    error, _ = raised(lambda: SpecClient(svc_url=NOWHERE).getSpec(5, fmt="tabel"))
    assert type(error) is BadParameter
