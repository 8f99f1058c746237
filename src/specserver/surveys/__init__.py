"""Surveys by name and context: installed plug-ins, and surveys that a data folder declares."""

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from ..data.root import DataRoot
from ..errors import BadFile, ServiceError, UnknownContext
from ..model.survey import Release, Survey
from .generic import declared_survey, declared_surveys

GROUP: Final = "specserver.surveys"
"""Entry point group through which an installed package offers a survey."""


def load_surveys(data: DataRoot | None = None) -> dict[str, Survey]:
    """Return all installed surveys by name, then those that a data folder declares.

    A declaration that cannot be read is left out, and logged: the other contexts go on.
    """
    installed = _installed()
    if data is None:
        return dict(installed)
    # An installed survey comes before a declared one of the same name.
    taken = {release.context for survey in installed.values() for release in survey.releases}
    declared = (survey for survey in declared_surveys(data) if survey.name not in taken)
    return {**installed, **{f"{survey.name} in {data}": survey for survey in declared}}


def find_release(context: str, data: DataRoot | None = None) -> tuple[Survey, Release]:
    """Return the survey and the release of a context, which a data folder may declare itself.

    Raises
    ------
    UnknownContext
        Neither an installed survey nor the folder has such a release; the message lists all.
    StoreError
        The folder declares it, and the declaration is damaged.
    """
    surveys = _installed()
    for survey in surveys.values():
        if release := survey.release(context):
            return survey, release
    if data is not None:
        declared = declared_survey(data, context)
        if declared is not None:
            return declared, declared.releases[0]
    known = [
        release.context for survey in load_surveys(data).values() for release in survey.releases
    ]
    raise UnknownContext(context, known)


def missing_survey(context: str, name: str, data: DataRoot) -> str:
    """Return that the survey of a held context is not there and how to bring it; empty if it is.

    Its segments say the name of the survey; empty: not known.
    """
    try:
        find_release(context, data)
    except UnknownContext:
        called = f"survey {name!r}" if name else "survey"
        return (
            f"{context} is held here but not served: its {called} is neither installed nor declared"
            f" in {data.context(context).declaration.key}; install the package that has its"
            f" plug-in (entry point {GROUP}) with pip, beside specserver"
        )
    return ""


@cache
def _installed() -> dict[str, Survey]:
    """Return the surveys that installed packages offer, by name."""
    found: dict[str, Survey] = {}
    for entry in entry_points(group=GROUP):
        try:
            survey = entry.load()
        except (ImportError, AttributeError, SyntaxError) as error:
            raise ServiceError(
                f"the survey plug-in {entry.name!r} ({entry.value}) cannot be loaded: {error};"
                " mend or uninstall the package that offers it"
            ) from error
        if not isinstance(survey, Survey):
            raise ServiceError(
                f"the survey plug-in {entry.name!r} ({entry.value}) is a"
                f" {type(survey).__name__}, not a Survey; its entry point names another object"
            )
        found[survey.name] = survey
    return dict(sorted(found.items()))


def own_command(path: Path) -> str:
    """Return the command that ingests a file with an installed survey; empty if none reads it."""
    for survey in _installed().values():
        if survey.reader.identify(path) is None:
            continue
        try:
            found = survey.reader.read(path)
        except (BadFile, OSError):
            continue
        made = {spectrum.reduction for spectrum in found}
        fitting = [release for release in survey.releases if made <= set(release.reductions)]
        context = (fitting or survey.releases)[-1].context
        return (
            f"it is a file of {survey.title}, which has a reader of its own: ingest it with"
            f" `specserver ingest {context} …`, or another of its releases, without --reader"
        )
    return ""
