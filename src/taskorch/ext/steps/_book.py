"""The steps that an attempt asks for, and those of its task that are kept."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import attrs

from taskorch.core.engine import InsideAttempt, ask_at_home
from taskorch.errors import (
    InvalidTaskError,
    ResultGoneError,
    StepError,
    TaskorchError,
)
from taskorch.events import TaskNoted
from taskorch.ext.steps._step import (
    SLEEP,
    Asked,
    KeptStep,
    Ran,
    Step,
    is_other_code,
    kept_of,
    moment_of,
    note_of,
    same_of,
)
from taskorch.kit.fence import log_of
from taskorch.kit.visible import with_article
from taskorch.model import TERMINAL, Missing
from taskorch.model.ids import has_number, number_of, stem_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from taskorch.core.engine import Noted
    from taskorch.events import Event
    from taskorch.model import TaskStatus

#: The name of the notes of steps.
NAME: Final = "steps"
_LOG: Final = log_of(__name__)
#: One attempt may ask for so many steps: all kept ones are read when it runs again.
MOST: Final = 10_000
#: The characters of a digest in a key.
_KEY: Final = 16
#: The number of steps in an explanation.
_SHOWN: Final = 10
#: The key of the note from which step on a run begins anew; no step has this key.
_FORK: Final = "fork"
#: The note that a step of an earlier run was given to this one.
_GIVEN: Final = "given"
#: The caller of a step: a thread, and a task of its loop.
Strand: TypeAlias = tuple[int, int]

#: Stands for a value that is in the journal only.
_IN_JOURNAL: Final = object()


class _Shelf:
    """The kept steps of one task, while it is in memory."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.kept: dict[str, KeptStep] = {}
        self.book: Book | None = None
        #: The child for which the task waits; it is cancelled if the task ends earlier.
        self.waits: dict[str, StepWait] | None = None
        #: The step from which on this run calls anew; it is in memory only.
        self.forked_at: str = ""
        #: The digest of the work of this run; "" if nobody can tell it from other work.
        self.work: str | None = None

    def leave(self, _: str) -> None:
        """Leave the child for which the task waits, because the task has ended."""
        for wait in list((self.waits or {}).values()):
            with suppress(TaskorchError):
                wait.leave()

    def words(self) -> list[str]:
        """Return the sentences for an explanation."""
        return [] if self.book is None else self.book.words()


class StepWait(Protocol):
    """A step that waits for a task, or for a run of a workflow."""

    def leave(self) -> None:
        """Cancel the child, if it has not ended: nobody waits for it any more."""
        ...


class OpenSpan(Protocol):
    """The span of a step: see `taskorch.ext.telemetry`."""

    def current(self) -> AbstractContextManager[Any]:
        """Make it the current span within the block."""
        ...

    def end(self, error: str = "", message: str = "") -> None:
        """End the span, with the class *error* of a raised error."""
        ...


def book_of(context: Any) -> Book:
    """
    The book of the attempt of *context*, with what earlier attempts have kept.

    Raises:
        AttemptInterrupted: A later attempt has begun.
        JournalError: The journal cannot be read.
    """
    inside = InsideAttempt(context, NAME)
    shelf = inside.noted.own(inside.work, _Shelf)
    with shelf.lock:
        book = shelf.book
        if book is None or book.inside.attempt < inside.attempt:
            _work_of(inside, shelf)
            book = Book(inside, shelf)
            if is_again(inside):
                shelf.kept = earlier_of(inside)
            shelf.book = book
    if book.inside.attempt != inside.attempt:
        inside.stop_if_asked()
    return book


def _work_of(inside: InsideAttempt, shelf: _Shelf) -> str:
    """Return the digest of the work of a run; "" if nobody can tell it from other."""
    with shelf.lock:
        if shelf.work is None:
            shelf.work = ""
            with suppress(ResultGoneError):
                shelf.work = same_of(inside.content())
        return shelf.work


def key_of(context: Any) -> str:
    """
    `context.key`: the id of the task, and a digest of its work.

    Raises:
        InvalidTaskError: Nobody can tell its work from other work.
    """
    inside = InsideAttempt(context, NAME)
    work = _work_of(inside, inside.noted.own(inside.work, _Shelf))
    if not work:
        msg = f"task {inside.task_id} has no key: an argument, a result that it was "
        msg += "given, or what its function closes over has no document"
        hint = "give it what can be compared, such as texts, numbers and dataclasses"
        raise InvalidTaskError(msg, hint=hint)
    return f"{stem_of(inside.task_id)}-{work[:_KEY]}"


def key_elsewhere(context: Any) -> str:
    """`context.key` in a worker process."""
    task = context.task_id, context.attempt
    key: str = ask_at_home(task, "taskorch.ext.steps._book:key_at_home", None)
    return key


def key_at_home(context: Any, _: None) -> str:
    """Return the key of an attempt, beside the orchestrator."""
    return key_of(context)


def needs_reading(context: Any) -> bool:
    """Return whether `book_of` would read the journal."""
    inside = InsideAttempt(context, NAME)
    book = inside.noted.own(inside.work, _Shelf).book
    is_new = book is None or book.inside.attempt < inside.attempt
    return is_new and inside.noted.is_durable and is_again(inside)


def is_again(inside: InsideAttempt) -> bool:
    """Return whether the task ran before."""
    return inside.attempt > 1 or has_number(inside.task_id)


def earlier_of(inside: InsideAttempt) -> dict[str, KeptStep]:
    """Return the kept steps of a task that runs again."""
    return _kept_of(inside.noted, inside.task_id)


def _kept_of(noted: Noted, task_id: str) -> dict[str, KeptStep]:
    """Return the kept steps of a task, with those of earlier runs."""
    if noted.is_durable:
        return folded(noted.of(task_id))
    kept: dict[str, KeptStep] = {}
    for work in noted.works(task_id):
        shelf = noted.own(work, _Shelf)
        if shelf.forked_at:
            _cut(kept, shelf.forked_at)
        kept |= shelf.kept
    return kept


def folded(notes: Iterable[tuple[TaskNoted, Any]]) -> dict[str, KeptStep]:
    """The steps that *notes*, in their order, lead to."""
    steps: dict[str, KeptStep] = {}
    forked = 0
    for event, value in notes:
        if forked and number_of(event.task_id) < forked:
            # An earlier run has kept the step since, and the fork makes its own.
            continue
        if event.key == _FORK:
            _cut(steps, event.note, event.task_id)
            forked = number_of(event.task_id)
        elif not event.note:
            steps.pop(event.key, None)
        elif event.note == _GIVEN:
            _give(steps, event.key, event.task_id)
        elif event.key not in steps or not steps[event.key].is_over:
            steps[event.key] = kept_of(
                event.task_id, event.attempt, event.at_ns, event.note, value
            )
    return steps


def _cut(steps: dict[str, KeptStep], at: str, run: str = "") -> None:
    """Take from *steps* that of the key *at*, and all after it that *run* has not."""
    keys = [*steps]
    for key in keys[keys.index(at) :] if at in steps else ():
        if steps[key].run != run:
            del steps[key]


def _give(steps: dict[str, KeptStep], key: str, run: str) -> None:
    """Let *run* have the step of *key* in *steps*, which an earlier run has kept."""
    if key in steps:
        steps[key] = steps[key]._replace(run=run)


def steps_of(noted: Noted, status: TaskStatus) -> list[Step]:
    """Return the steps of a task, in their order: kept ones and unfinished ones."""
    under_way: list[Step] = []
    for work in noted.works(status.task_id):
        shelf = noted.own(work, _Shelf)
        if shelf.book is not None:
            under_way = shelf.book.under_way()
    return _shown(_kept_of(noted, status.task_id), status, under_way)


def steps_in(events: Iterable[Event], status: TaskStatus) -> list[Step]:
    """The steps that *events* of a task and of its earlier runs say, as `steps_of`."""
    notes = [
        (each, None)
        for each in events
        if isinstance(each, TaskNoted) and each.extension == NAME
    ]
    return _shown(folded(notes), status)


def _shown(
    kept: dict[str, KeptStep], status: TaskStatus, under_way: Sequence[Step] = ()
) -> list[Step]:
    steps = [each.step for each in list(kept.values())]
    steps = [*told_by(steps, (status.task_id, status.attempts)), *under_way]
    return left(steps) if status.state in TERMINAL else steps


def fork(noted: Noted, task_id: str, at: str, *, downstream: bool | None) -> str:
    """Run a task again from the step *at* on; return the id of the new run."""
    shelf = _Shelf()
    shelf.forked_at = at
    return noted.run_again(task_id, _FORK, at, shelf, downstream=downstream)


def told_by(steps: list[Step], latest: tuple[str, int]) -> list[Step]:
    """Return *steps* with kept ones of the *latest* attempt marked as called."""
    return [
        attrs.evolve(step, state="called")
        if (step.task_id, step.attempt) == latest and step.state == "kept"
        else step
        for step in steps
    ]


def left(steps: list[Step]) -> list[Step]:
    """Return *steps* of an ended task, with running ones marked as left."""
    return [
        attrs.evolve(step, state="left") if step.state == "running" else step
        for step in steps
    ]


def drop(noted: Noted, task_id: str, keys: list[str]) -> None:
    """Drop the steps of *keys*, which are called again."""
    for work in noted.works(task_id):
        shelf = noted.own(work, _Shelf)
        with shelf.lock:
            for key in keys:
                shelf.kept.pop(key, None)
    noted.take_back(task_id, keys)


def _copied(value: Any, *, is_new: bool = False) -> Any:
    """
    Return a copy of *value*, if possible, so that later changes do not count.

    Raises:
        InvalidTaskError: It *is_new*, and a later attempt would get it used up.
    """
    try:
        copy = deepcopy(value)
    except Exception:  # noqa: BLE001 - it is the user's
        copy, cannot_be = value, True
    else:
        cannot_be = issubclass(type(value), Iterator)
    if is_new and cannot_be:
        msg = f"{with_article(type(value).__name__)} is of use to one attempt only"
        raise InvalidTaskError(msg, hint="return what it yields, or open it outside")
    return copy


class Book:
    """
    The book of one attempt, with the steps that it asks for.

    Its methods may be called from any thread.
    """

    def __init__(self, inside: InsideAttempt, shelf: _Shelf) -> None:
        self.inside: Final = inside
        self._shelf = shelf
        self._numbers: Counter[str] = Counter()
        self._total = 0
        self._running: dict[str, Step] = {}
        #: Whether it has used steps of earlier runs, of which the log says so once.
        self._uses_earlier = False
        #: The spans of steps under way, by key, if they are traced.
        self._spans: dict[str, OpenSpan] = {}
        #: Errors that the function may still handle; they are kept once it asks for a
        #: step.
        self._raised: dict[Strand, tuple[Asked, int, Ran, dict[str, Any]]] = {}

    def ask(self, asked: Asked, strand: Strand) -> tuple[int, KeptStep | None, int]:
        """
        Ask for a step; return its number, and its kept result, or None to call it.

        The last number is for `InsideAttempt.wait`, before anything is called. For an
        unfinished wait, its beginning is kept.

        Raises:
            StepError: The request is invalid, or differs from the kept step.
            AttemptInterrupted: The attempt is to stop.
        """
        self.inside.stop_if_asked()
        with self._shelf.lock:
            seq = 0
            handled = self._raised.pop(strand, None)
            if handled is not None:
                seq = self._note(*handled[:3], handled[3], handled[3]["text"])
            self._check(asked)
            self._numbers[asked.name] += 1
            self._total += 1
            number = self._numbers[asked.name]
            key = f"{asked.name}#{number}"
            kept = self._shelf.kept.get(key)
            if kept is not None:
                kept = self._if_same(asked, key, kept)
            if kept is not None and kept.is_over:
                try:
                    kept = self._with_value(key, kept)
                except BaseException:
                    # A second call with the same key asks for the same step.
                    self._numbers[asked.name] -= 1
                    self._total -= 1
                    raise
                self._begin_span(asked, number, is_kept=True)
                return number, kept, seq
            self._begin_span(asked, number, is_kept=False)
            self._running[asked.name] = Step(
                asked.name,
                number,
                asked.function,
                asked.arguments,
                "running",
                self.inside.task_id,
                self.inside.attempt,
                moment_of(self.inside.now()),
            )
            return number, kept, seq

    def _same(self, asked: Asked) -> str:
        """Return the digest of *asked* with the work of the run; "" if none."""
        parts = self._shelf.work, asked.function, asked.same
        return same_of(parts) if all(parts) else ""

    def _if_same(self, asked: Asked, key: str, kept: KeptStep) -> KeptStep | None:
        """
        Return what is *kept* of a step; None: an earlier run has kept it of other work.

        Raises:
            StepError: This run has kept another step under its name.
        """
        shelf, run = self._shelf, self.inside.task_id
        if kept.run == run:
            self._refuse_difference(asked, kept)
        elif (
            not kept.same
            or kept.same != self._same(asked)
            or (
                is_other_code(asked.code, kept.code)
                and self.inside.is_as_deployed(kept.step.began)
            )
        ):
            # All that came after it may have used its result.
            self.inside.note(_FORK, key)
            _LOG.info(
                "task %s calls step %s anew, and all after it: %s has kept it of other "
                "work or code, or of what nobody can compare",
                *(run, key, kept.run),
            )
            shelf.forked_at = key
            _cut(shelf.kept, key, run)
            return None
        elif kept.is_over:
            # The next attempts of this run compare it no more.
            self.inside.note(key, _GIVEN)
            if not self._uses_earlier:
                self._uses_earlier = True
                _LOG.info(
                    "task %s uses what %s has kept of the same work, from step %s on",
                    *(run, kept.run, key),
                )
            _give(shelf.kept, key, run)
        return kept

    def begun(self, asked: Asked, number: int, child: str) -> None:
        """Keep that a step has begun to wait for *child*."""
        with self._shelf.lock:
            self._note(asked, number, Ran(None, child=child), None, "")

    def begin_anew(self, key: str) -> int:
        """
        Take back that a step waits: whoever asks for it next begins the wait anew.

        The number is for `InsideAttempt.wait`.
        """
        with self._shelf.lock:
            kept = self._shelf.kept.get(key)
            if kept is not None and not kept.is_over:
                del self._shelf.kept[key]
                return self.inside.note(key, "")
            return 0

    def waits(self, key: str, wait: StepWait) -> None:
        """Note that the step of *key* waits."""
        with self._shelf.lock:
            shelf = self._shelf
            if shelf.waits is None:
                shelf.waits = {}
                self.inside.at_end(shelf.leave)
            shelf.waits[key] = wait

    def waited(self, key: str) -> None:
        """Note that the wait of the step of *key* is over."""
        (self._shelf.waits or {}).pop(key, None)

    def returned(
        self, asked: Asked, number: int, ran: Ran, value: Any
    ) -> tuple[KeptStep | None, int]:
        """
        Keep what a step returned.

        If an attempt that had been given up has kept the same step first, that counts:
        it is returned. The number is for `InsideAttempt.wait`.

        Raises:
            StepError: The journal cannot keep it.
        """
        key = f"{asked.name}#{number}"
        with self._shelf.lock:
            self._end(asked)
            first = self._newest.get(key)
            if first is not None and first.is_over:
                return self._with_value(key, first), 0
            try:
                return None, self._note(asked, number, ran, value, "")
            except InvalidTaskError as error:
                msg = f"step {asked.name!r} returned what cannot be kept: "
                msg += f"{error.message}. It was called, and will be called again when "
                msg += "the task runs again"
                hint = error.hint or "return texts, numbers, lists, dicts"
                task_id = self.inside.task_id
                raise StepError(msg, hint=hint, task_id=task_id) from error

    def raised(
        self,
        asked: Asked,
        number: int,
        ran: Ran,
        said_of: dict[str, Any],
        strand: Strand,
    ) -> None:
        """Note that a step raised: it is kept if the function goes on after it."""
        with self._shelf.lock:
            error = said_of["type"].rpartition(".")[2]
            self._end(asked, error, said_of["message"])
            self._raised[strand] = asked, number, ran, said_of

    def left(self, asked: Asked) -> None:
        """Note that the call of a step was cut off."""
        self._end(asked)

    def current(self, key: str) -> AbstractContextManager[Any]:
        """Make the span of the step of *key*, if it has one, the current one."""
        span = self._spans.get(key)
        return nullcontext() if span is None else span.current()

    def end_span(self, key: str, error: str = "", message: str = "") -> None:
        """End the span of the step of *key*, if it has one, maybe with an error."""
        span = self._spans.pop(key, None)
        if span is not None:
            span.end(error, message)

    def _begin_span(self, asked: Asked, number: int, *, is_kept: bool) -> None:
        span = self.inside.span(asked.name, number, is_kept=is_kept)
        if span is None:
            return
        key = f"{asked.name}#{number}"
        self._spans[key] = span
        if is_kept and asked.function != SLEEP:
            self.end_span(key)

    def _end(self, asked: Asked, error: str = "", message: str = "") -> None:
        """Note that the call of a step is over; a sleep only begins then."""
        step = self._running.pop(asked.name, None)
        if step is not None and asked.function != SLEEP:
            self.end_span(step.key, error, message)

    def under_way(self) -> list[Step]:
        """The steps that are being called; of a wait, it is kept that it has begun."""
        kept = self._shelf.kept
        return [step for step in [*self._running.values()] if step.key not in kept]

    def words(self) -> list[str]:
        """Return the sentences for an explanation: the latest steps."""
        latest = self.inside.task_id, self.inside.attempt
        steps = [each.step for each in list(self._shelf.kept.values())]
        steps = told_by(steps, latest) + self.under_way()
        older = len(steps) - _SHOWN
        head = [f"Of {len(steps):,} steps, the latest:"] if older > 0 else []
        return head + [f"Step {step}." for step in steps[-_SHOWN:]]

    @property
    def _newest(self) -> dict[str, KeptStep]:
        """The steps that are kept now, from later attempts, too."""
        return self._shelf.kept

    def _note(self, asked: Asked, number: int, ran: Ran, value: Any, error: str) -> int:
        key = f"{asked.name}#{number}"
        note = note_of(asked, number, ran, error, self._same(asked))
        needs = (ran.child,) if ran.child else ()
        inside, held = self.inside, _IN_JOURNAL
        if not inside.noted.is_durable:
            held = _copied(value, is_new=not ran.child)
        seq = inside.note(key, note, value, needs)
        about = inside.task_id, inside.attempt, inside.now()
        self._shelf.kept[key] = kept_of(*about, note, held)
        return seq

    def _with_value(self, key: str, kept: KeptStep) -> KeptStep:
        if not self.inside.noted.is_durable:
            return kept._replace(value=_copied(kept.value))
        if kept.value is _IN_JOURNAL:
            # An attempt that had been given up has kept the step since.
            kept = folded(self.inside.noted.of(self.inside.task_id))[key]
        value = kept.value
        if not issubclass(type(value), Missing):
            return kept
        back = value.look()
        if issubclass(type(back), Missing):
            msg = f"the result of step {kept.step.name!r} is lost: {back.why}"
            hint = "bring that back and run the task again, or fork it before the step"
            raise ResultGoneError(msg, hint=hint, task_id=self.inside.task_id)
        return kept._replace(value=back)

    def _check(self, asked: Asked) -> None:
        task_id, name = self.inside.task_id, asked.name
        if name in self._running:
            msg = f"step {name!r} is asked for while another of this name runs: which "
            msg += "of both is the first cannot be told when the task runs again"
            hint = f"give each a name of its own, such as '{name}/A'"
            raise StepError(msg, hint=hint, task_id=task_id)
        if self._total >= MOST:
            msg = f"the task asks for more than {MOST:,} steps"
            hint = "let a step do many things, or make tasks of them: orch.map"
            raise StepError(msg, hint=hint, task_id=task_id)

    def _refuse_difference(self, asked: Asked, kept: KeptStep) -> None:
        step, difference = kept.step, ""
        if step.function != asked.function:
            difference = f"called {step.function}, and is now to call {asked.function}"
        elif kept.digest != asked.digest:
            difference = f"was called with {step.arguments}, and is now with "
            difference += asked.arguments
            if step.arguments == asked.arguments:
                difference = f"was called with other arguments than {asked.arguments}"
        if not difference:
            return
        where = f"attempt {step.attempt} of {step.task_id}"
        which = f"step {asked.name!r} ({step.number})"
        msg = f"{which} {difference}: its result is kept from {where}"
        hint = "give the step another name, or drop what is kept from it on: "
        hint += f"orch.steps.forget({self.inside.task_id!r}, at={step.key!r})"
        raise StepError(msg, hint=hint, task_id=self.inside.task_id)
