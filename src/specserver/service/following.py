"""Contexts whose catalogue a database answers: it follows the data folder while it does."""

import atexit
import logging
import threading
import time
from dataclasses import dataclass
from typing import Final

from ..catalog.base import Catalogue
from ..catalog.followed import CatalogueDatabase, FollowedCatalogue
from ..catalog.opening import IndexState, newest_state
from ..data.context import ContextFolder
from ..errors import CatalogError, Overloaded, SpecServerError
from ..model.survey import Survey

_LOG = logging.getLogger(__name__)
_RETRY_S: Final = 2
"""Seconds after which a caller is told to come again, and the database is asked to follow again."""
_END_S: Final = 10
"""Seconds that a process which ends waits for the database to follow."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A context, open."""

    seen: IndexState
    """The newest version of the index in the folder when it was opened."""
    serial: int
    """Count of changes of the rows in the database."""
    is_current: bool
    """The database has that version."""
    catalog: FollowedCatalogue

    @property
    def is_moved(self) -> bool:
        """Whether the database has other rows by now: it follows, or was restored or made anew."""
        return self.catalog.seen != self.serial


class FollowedCatalogues:
    """The catalogues of contexts in a database; safe to share between threads.

    If the data folder has a newer version, a thread brings the database to it; until then the
    database answers as it is. Of several processes that do so one works, and the others wait.
    """

    def __init__(self, database: CatalogueDatabase) -> None:
        self.database = database
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()
        self._at_work: dict[str, threading.Thread] = {}
        self._failed: dict[str, tuple[float, SpecServerError]] = {}
        """Context → when the database could not follow, and why."""

    def is_current(self, folder: ContextFolder, catalog: Catalogue) -> bool:
        """Return whether a catalogue is that of the newest version of a context."""
        known = self._known.get(folder.name)
        return (
            known is not None
            and known.is_current
            and known.catalog is catalog
            and not known.is_moved
            and newest_state(folder.index, known.seen) is known.seen
        )

    def catalog(self, folder: ContextFolder, survey: Survey) -> Catalogue:
        """Return the catalogue of a context.

        Raises
        ------
        DatabaseAway
            The database cannot be reached.
        Overloaded
            The context is being written to the database for the first time.
        DamagedFile
            The newest manifest is damaged.
        CatalogError
            The context cannot be written to the database, which may have that of another folder.
        """
        known = self._known.get(folder.name)
        newest = newest_state(folder.index, known.seen if known else None)
        if known and known.is_current and not known.is_moved and newest is known.seen:
            return known.catalog
        state = self.database.state(folder.name)
        is_current = state is not None and state.is_of(newest.manifest)
        if not is_current:
            if state is not None:
                state.require_own(folder, newest.manifest)
            self.follow(folder, survey)
        if state is None:
            self._refuse(folder.name)
        if known is None or state is None or known.is_moved or known.serial != state.serial:
            catalog = self.database.open(folder.name, survey)
        else:
            # A merge of index parts changes no row.
            catalog = known.catalog
        serial = state.serial if state else 0
        self._known[folder.name] = _Known(newest, serial, is_current, catalog)
        return catalog

    def follow(self, folder: ContextFolder, survey: Survey) -> threading.Thread | None:
        """Let a thread bring the database to the newest version of a context; return it.

        None: the database could not follow a moment ago.
        """
        name = folder.name
        with self._lock:
            thread = self._at_work.get(name)
            if thread is not None:
                return thread
            failed = self._failed.get(name)
            if failed is not None and time.monotonic() < failed[0] + _RETRY_S:
                return None
            thread = threading.Thread(
                target=self._follow, args=(folder, survey), daemon=True, name="database"
            )
            # What it has written would be lost, and written again by the next process.
            atexit.register(thread.join, _END_S)
            thread.start()
            self._at_work[name] = thread
        return thread

    def _follow(self, folder: ContextFolder, survey: Survey) -> None:
        name = folder.name
        try:
            self.database.sync(folder, survey)
        except (SpecServerError, OSError) as error:
            why = error if isinstance(error, SpecServerError) else CatalogError(str(error))
            if self._is_new(name, why):
                _LOG.error("%s: the database cannot follow: %s", name, why.message)
            self._failed[name] = time.monotonic(), why
        except Exception as error:  # noqa: BLE001  # callers have to hear of any
            why = CatalogError(f"the database cannot follow ({type(error).__name__}: {error})")
            if self._is_new(name, why):
                _LOG.exception("%s: the database cannot follow", name)
            self._failed[name] = time.monotonic(), why
        else:
            self._failed.pop(name, None)
        finally:
            with self._lock:
                del self._at_work[name]
            atexit.unregister(threading.current_thread().join)

    def _is_new(self, name: str, why: SpecServerError) -> bool:
        """Return whether the database could follow before, or failed for another reason."""
        before = self._failed.get(name)
        return before is None or before[1].message != why.message

    def _refuse(self, name: str) -> None:
        """Raise why a context cannot be answered that the database does not have."""
        failed = self._failed.get(name)
        if failed is not None and not isinstance(failed[1], Overloaded):
            raise failed[1]
        raise Overloaded(_RETRY_S, f"{name}: its catalogue is being written to the database")
