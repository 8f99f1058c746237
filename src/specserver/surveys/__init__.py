"""Surveys: one survey, one file, found through the entry point group ``specserver.surveys``."""

from functools import cache
from importlib.metadata import entry_points

from ..errors import UnknownContext
from ..model.survey import Release, Survey


@cache
def load_surveys() -> dict[str, Survey]:
    """Return all installed surveys by name."""
    found = [entry.load() for entry in entry_points(group="specserver.surveys")]
    return {survey.name: survey for survey in sorted(found, key=lambda one: str(one.name))}


def find_release(context: str) -> tuple[Survey, Release]:
    """Return the survey and the release of a context name.

    Raises
    ------
    UnknownContext
        No installed survey has such a release; the message lists those there are.
    """
    for survey in load_surveys().values():
        if release := survey.release(context):
            return survey, release
    known = [one.context for survey in load_surveys().values() for one in survey.releases]
    raise UnknownContext(context, known)
