"""What was asked of an object store a moment ago: requests of users ask for the same each time."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeAlias

from ...errors import StoreError

Question: TypeAlias = tuple[str, str]
"""What was asked, and the key."""
STAMP: Final = "stamp"
CHILDREN: Final = "children"
FOLDER: Final = "folder"
QUESTIONS: Final = (STAMP, CHILDREN, FOLDER)
_MOST: Final = 100_000
_FORGOTTEN: Final = object()
"""In place of an answer: it is not known since that time."""
_SHORT_S: Final = 5.0
"""Answers that may be older are of what hardly changes, and are not asked for along with others."""
_MOST_OTHERS: Final = 120
_OFTEN_S: Final = 600.0
"""A question that a request had within this time is asked again along with others."""
_MOST_IN_VAIN: Final = 4
"""A question that was asked so often along with others, and no request had it, is dropped."""


class Memory:
    """Answers of an object store, with their time; safe to share between threads.

    A thread that holds a lock, or that writes, is answered anew: it decides what is deleted.
    """

    def __init__(self) -> None:
        self._known: dict[Question, tuple[float, Any]] = {}
        self._wanted: dict[Question, tuple[float, int]] = {}
        """When a request had each question last; how often it was asked with others since then."""
        self._ahead: Future[list[Any]] | None = None
        """Answers to the questions that were asked last while requests were answered."""
        self._strict = threading.local()
        self._lock = threading.Lock()

    @contextmanager
    def strict(self) -> Iterator[None]:
        """Answer this thread anew for a while."""
        self._strict.depth = getattr(self._strict, "depth", 0) + 1
        try:
            yield
        finally:
            self._strict.depth -= 1

    def answers(
        self,
        questions: Sequence[Question],
        age_s: float,
        ask: Callable[[Sequence[Question]], Sequence[Any]],
        begin: "Callable[[Sequence[Question]], Future[list[Any]]] | None" = None,
    ) -> list[Any]:
        """Return answers that are ``age_s`` old at most; the others are asked for at once.

        Those that are too old, and that a request has wanted lately, are asked for along with a
        single question, so that a user's request waits once and not for each. If requests follow
        each other, none of them waits: an answer that has reached half of ``age_s`` is used, and
        is asked for again meanwhile.

        Parameters
        ----------
        ask : returns the answer to each question, or its error, which is raised
        begin : starts to ask, and does not wait; None: a request waits each ``age_s``
        """
        now = time.monotonic()
        if getattr(self._strict, "depth", 0):
            age_s = 0.0
        is_often = len(questions) == 1 and 0.0 < age_s < _SHORT_S
        with self._lock:
            if is_often:
                self._wanted[questions[0]] = now, 0
            known = {some: self._known.get(some) for some in questions}
            found = {some: it[1] for some, it in known.items() if it and _is_new(it, now, age_s)}
            lacking = [some for some in known if some not in found]
            others = self._stale(now, age_s, questions[0]) if is_often and lacking else []
            ahead = []
            if begin and is_often and not lacking:
                ahead = self._due(now, age_s / 2, questions[0])
        if begin and ahead:
            self._ask_ahead(ahead, begin, now)
        if not lacking:
            return [found[some] for some in questions]
        asked = [*lacking, *others]
        given = dict(zip(asked, ask(asked), strict=True))
        for some in lacking:
            if isinstance(given[some], BaseException):
                raise given[some]
        self._note(given, now)
        answers = found | given
        return [answers[some] for some in questions]

    def _note(self, given: dict[Question, Any], asked_s: float) -> None:
        """Note what a store has answered; an error is no answer."""
        sound = {some: it for some, it in given.items() if not isinstance(it, BaseException)}
        self.remember(sound, asked_s)

    def _due(self, now: float, age_s: float, question: Question) -> list[Question]:
        """Return the questions that are to be asked again ahead of time: this one, and others.

        There are none if its answer is new, or if such questions are being asked. Call it under
        the lock.
        """
        is_asking = self._ahead is not None and not self._ahead.done()
        if is_asking or _is_new(self._known[question], now, age_s):
            return []
        return [question, *self._stale(now, age_s, question)]

    def _ask_ahead(
        self,
        questions: Sequence[Question],
        begin: "Callable[[Sequence[Question]], Future[list[Any]]]",
        now: float,
    ) -> None:
        """Ask anew, and note the answers when they come; no request waits for them."""

        def note(future: "Future[list[Any]]") -> None:
            if not future.cancelled() and future.exception() is None:
                self._note(dict(zip(questions, future.result(), strict=True)), now)

        # A process that ends asks nothing any more. The error is for a request that has to wait.
        with suppress(StoreError):
            # Two threads may come here at once. Then both ask, which does no harm.
            self._ahead = begin(questions)
            self._ahead.add_done_callback(note)

    def _stale(self, now: float, age_s: float, question: Question) -> list[Question]:
        """Return other questions that requests had lately, and whose answers are too old."""
        found = []
        for some, (last, in_vain) in list(self._wanted.items()):
            if now - last >= _OFTEN_S or in_vain >= _MOST_IN_VAIN:
                del self._wanted[some]
            elif some != question and not _is_new(self._known.get(some), now, age_s):
                found.append(some)
                self._wanted[some] = last, in_vain + 1
            if len(found) == _MOST_OTHERS:
                break
        return found

    def remember(self, given: dict[Question, Any], asked_s: float | None = None) -> None:
        """Note answers, unless something newer is known.

        Parameters
        ----------
        asked_s : time at which they were asked for, as of `time.monotonic`; None: now
        """
        asked_s = time.monotonic() if asked_s is None else asked_s
        with self._lock:
            if len(self._known) + len(given) > _MOST:
                self._known.clear()
                self._wanted.clear()
            for some, answer in given.items():
                known = self._known.get(some)
                if known is None or known[0] <= asked_s:
                    self._known[some] = asked_s, answer

    def has(self, question: Question, age_s: float) -> bool:
        """Return whether an answer is known that is ``age_s`` old at most."""
        return _is_new(self._known.get(question), time.monotonic(), age_s)

    def forget(self, key: str, *, below: bool = False) -> None:
        """Forget what is known of an object, and of the folders that it is in.

        Parameters
        ----------
        below : also of all objects below it
        """
        parts = key.split("/")
        prefixes = {"/".join(parts[:n]) for n in range(len(parts) + 1)}
        now = time.monotonic()
        with self._lock:
            if below:
                prefixes.update(some for _, some in self._known if some.startswith(f"{key}/"))
            for some in prefixes:
                for what in QUESTIONS:
                    # A request that was begun before brings what was true then.
                    self._known[what, some] = now, _FORGOTTEN


def _is_new(known: tuple[float, Any] | None, now: float, age_s: float) -> bool:
    """Return whether an answer is new enough."""
    return known is not None and known[1] is not _FORGOTTEN and now - known[0] < age_s
