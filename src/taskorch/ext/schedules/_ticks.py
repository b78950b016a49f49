"""
Decisions about the ticks of schedules that have come, and the runs that they make.

Decisions: schedules, workflows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from itertools import chain, islice, takewhile
from typing import TYPE_CHECKING, Any, Final

from taskorch.core.runs._versions import Deployed
from taskorch.core.workflows import Workflow, WorkflowFunction
from taskorch.core.workflows._functions import declared_by
from taskorch.core.workflows._parameters import as_json, kept
from taskorch.errors import (
    DuplicateTaskError,
    InvalidTaskError,
    NotRunningError,
    UsageError,
)
from taskorch.events import ScheduleFired, ScheduleQueued, ScheduleSkipped
from taskorch.ext.schedules._backfill import Backfill
from taskorch.ext.schedules._book import ScheduleBook
from taskorch.ext.schedules._entry import (
    LiveSchedule,
    TickOrder,
    nobody_said,
    task_of,
    workflow_for,
)
from taskorch.ext.schedules._host import ScheduleHost, is_run
from taskorch.ext.schedules._times import moment_ns
from taskorch.kit.fence import log_of
from taskorch.kit.limits import NS
from taskorch.kit.plain import VERSIONS
from taskorch.kit.ticks import TickProgress
from taskorch.kit.words import ns_of, stamp
from taskorch.model import Task
from taskorch.model.ids import stem_of

if TYPE_CHECKING:
    from taskorch.core.kernel import Kernel

#: With `catch_up="none"`, a tick may be so late, in ns.
_LATE: Final = 60 * NS
#: So many ticks are made at once; other requests are answered in between.
BATCH: Final = 200
#: The seconds until a refused tick is tried again.
AGAIN: Final = 30
#: Why a tick has no run that came while the program was there.
_HELD_UP: Final = (
    "nobody was here to make them: the program was held up, or the clock was set"
)
_LOG: Final = log_of(__name__)


class Ticks:
    """
    The part that decides about each tick that has come, and makes its task or run.

    A tick is made, skipped, or waits for the run before it; an event records which.
    """

    def __init__(self, host: ScheduleHost, book: ScheduleBook) -> None:
        self._host = host
        self._book = book
        #: Whether this incarnation has made anything, or tried to.
        self.has_tried = False

    def make_due(self, entries: list[LiveSchedule], now: int) -> None:
        """Make the due ticks of some schedules, or report why not."""
        with self._book.making:
            orders: list[TickOrder] = []
            current = self._book.schedules()
            ours = [e for e in entries if current.get(e.definition.name) is e]
            try:
                for entry in ours:
                    try:
                        orders += self._due_of(entry, now)
                    except NotRunningError:
                        raise
                    except UsageError as error:
                        self._refused(entry, error, now)
                self._submit(orders, now)
            except BaseException:
                # No error of one schedule may stop the others.
                for entry in ours:
                    self._book.plan(entry, now + NS)
                raise

    def _due_of(self, entry: LiveSchedule, now: int) -> list[TickOrder]:
        """Return the orders of *entry* that are due now; skip the other ticks."""
        definition = entry.definition
        if definition.paused or entry.renamed:
            # They are skipped when the schedule is resumed, with one event for all.
            return []
        try:
            self._book.ensure_work(entry)
        except InvalidTaskError as error:
            self._put_off(
                entry, error.message, now, "no program had said what it makes"
            )
            return []
        if entry.is_unsure or entry.done_ns < entry.before_ns:
            self._note_made(entry, now)
        ticks = self._caught_up(entry, now)
        with self._book.lock:
            self._book.forget_ended(entry)
            running, waiting = (*entry.made,), [*entry.waiting]
        if len(ticks) == 1 and definition.overlap == "skip" and (running or waiting):
            holder = running[-1] if running else definition.tick_id(waiting[0])
            self._skip(entry, ticks[0], 1, f"{holder} has not ended")
            ticks = []
        queues = definition.overlap == "queue" and running
        # No task can wait for a run, which an earlier definition may have made.
        before = () if any(map(is_run, running[-1:])) else running[-1:]
        if (entry.is_run or before != running[-1:]) and (
            queues or waiting or ticks[1:]
        ):
            self._queue(entry, ticks)
            ticks = [] if running else [*waiting, *ticks][:1]
        else:
            if ticks and definition.overlap == "cancel":
                self.cancel(running, f"the next tick of {definition.name} has come")
            # Ticks may wait since the work was a workflow; those of a single task never
            # wait.
            ticks = [*waiting, *ticks]
        orders: list[TickOrder] = []
        for tick in ticks:
            made_id = definition.tick_id(tick)
            orders.append(TickOrder(entry, tick, made_id, "clock", before))
            before = (made_id,)
        if not orders:
            self._book.plan(entry)
        return orders

    def _note_made(self, entry: LiveSchedule, now: int) -> None:
        """Note which waiting and due ticks were made already."""
        definition = entry.definition

        def is_made(tick: int) -> bool:
            made_id = definition.tick_id(tick)
            return bool(self._host.known([made_id])) and self._host.is_made_by(
                made_id, definition.name
            )

        # Usually the first tick was not made, and then none of the others was.
        ticks = [*takewhile(is_made, [*entry.waiting])]
        self.tell(
            [
                TickOrder(entry, tick, definition.tick_id(tick), "clock")
                for tick in ticks
            ]
        )
        while ticks := [*takewhile(is_made, islice(entry.due(now), BATCH))]:
            before = [tick for tick in ticks if tick <= entry.before_ns]
            if before:
                why = "it was made before the system's clock was set back"
                self._skip(entry, before[-1], len(before), why)
            ours = ticks[len(before) :]
            self.tell(
                [
                    TickOrder(entry, tick, definition.tick_id(tick), "clock")
                    for tick in ours
                ]
            )
        entry.is_unsure = False

    def _caught_up(self, entry: LiveSchedule, now: int) -> list[int]:
        """Return the due ticks to make, and skip the others."""
        definition = entry.definition
        if definition.catch_up == "all":
            ticks = [*islice(entry.due(now), BATCH)]
            if entry.done_ns < entry.before_ns:
                # Ticks from before the clock was set back are noted one after another.
                existing = self._host.known(
                    [definition.tick_id(tick) for tick in ticks]
                )
                ticks = [
                    *takewhile(
                        lambda tick: definition.tick_id(tick) not in existing, ticks
                    )
                ]
            return ticks
        count, before, kept = entry.missed(now)
        latest = _LATE + int(definition.jitter * NS)
        if kept and definition.catch_up == "none" and now > kept[-1] + latest:
            count, before, kept = count + len(kept), kept[-1], []
        if count:
            self._pass_missed(entry, before)
        return kept

    def _pass_missed(self, entry: LiveSchedule, last_ns: int) -> None:
        """Skip the missed ticks up to one, each with the reason why it has no run."""
        refused_ns, why = entry.progress.refused or (0, "")
        for until, reason in (
            # While a tick waits to be tried again, the ticks after it wait, too.
            (refused_ns and max(refused_ns, entry.again_ns), f"it was refused: {why}"),
            (self._book.since_ns, "nobody was here when they came"),
            (last_ns, _HELD_UP),
        ):
            count, last = self.passed(entry, min(until, last_ns), put_off=False)
            if count:
                self._skip(entry, last, count, reason)

    def _queue(self, entry: LiveSchedule, ticks: list[int]) -> None:
        """Let *ticks* wait, so that runs begin one at a time."""
        if not ticks:
            return
        progress = entry.progress.copy()
        for tick in ticks:
            progress.queued(tick)
        name = entry.definition.name
        events = [(ScheduleQueued, name, tick) for tick in ticks]
        self._book.advance(events, [(entry, progress)])

    def passed(
        self, entry: LiveSchedule, now: int, *, put_off: bool
    ) -> tuple[int, int]:
        """
        Return the number of due ticks that are not made, and the last of them, or 0.

        Without *put_off*, ticks that jitter has delayed count, too.
        """
        if entry.is_unsure:
            self._note_made(entry, now)
        count, before, last = entry.missed(now, put_off=put_off)
        return count + len(last), last[-1] if last else before

    def pass_over(
        self, entry: LiveSchedule, now: int, why: str, *, put_off: bool = True
    ) -> None:
        """Skip the ticks up to *now* that have not come."""
        count, last = self.passed(entry, now, put_off=put_off)
        if count:
            self._skip(entry, last, count, why)

    def _skip(self, entry: LiveSchedule, tick: int, count: int, why: str) -> None:
        progress = entry.progress.copy()
        progress.decided(tick)
        event = ScheduleSkipped, entry.definition.name, tick, count, why
        self._book.advance([event], [(entry, progress)])

    def cancel(self, running: Iterable[str], why: str) -> None:
        """Cancel tasks and runs."""
        for made_id in running:
            if is_run(made_id):
                self._host.orch.workflows.cancel(made_id, reason=why)
            else:
                self._host.orch.cancel_task(made_id, reason=why)

    def is_taken(self, entry: LiveSchedule, now: int, made_id: str) -> bool:
        """Return whether the id for *now* belongs to a tick, or exists."""
        is_tick = now > entry.done_ns and entry.times.after(now - 1) == now
        return is_tick or bool(self._host.known([made_id]))

    def next_work(
        self, entry: LiveSchedule, after: datetime | None
    ) -> tuple[str, datetime, Task | Workflow]:
        """
        Return the id, the time and the work of the next tick, or the next *after* one.

        Raises:
            InvalidTaskError: It has no tick any more, or nobody has declared its work.
        """
        definition, work = entry.definition, entry.work
        since = 0 if after is None else ns_of(after)
        since = max(self._host.wall(), entry.done_ns, since)
        tick = next(entry.slots(since, None), None)
        if tick is None:
            msg = f"{definition.name} has no tick any more"
            raise InvalidTaskError(msg, hint="orch.schedules.add(…) gives it new times")
        order = TickOrder(entry, tick, definition.tick_id(tick), "clock")
        if isinstance(work, Task):
            return order.made_id, order.slot, task_of(work, order)
        if work is None:
            raise InvalidTaskError(nobody_said(definition))
        try:
            return order.made_id, order.slot, workflow_for(work, order)[0]
        except InvalidTaskError as error:
            text = f"he tick {stamp(tick / NS, 'auto')} will be refused: {error}"
            entry.trouble = entry.trouble or f"T{text}."
            self._say_refused(entry, text, error)
            raise

    def make(self, orders: list[TickOrder]) -> list[TickOrder]:
        """
        Carry out *orders*, the ones of each schedule one after another.

        Returns:
            The orders whose ids were not taken by other tasks.

        Raises:
            UsageError: One was refused.
        """
        tasks: list[Task] = []
        lost = set[int]()
        for order in orders:
            work = order.entry.work
            if isinstance(work, Workflow | WorkflowFunction):
                workflow, values = workflow_for(work, order)
                # An earlier incarnation may have made the task, which was edited since.
                try:
                    note, own = order.note(values), order.parameters or {}
                    self._host.start(workflow, order.made_id, note, own)
                except DuplicateTaskError:
                    self._refuse_taken(order, lost)
            elif work is not None:
                tasks.append(task_of(work, order))
                if order.parameters:
                    self._keep_given(order)
        if tasks:
            try:
                self._host.submit(tasks)
            except DuplicateTaskError:
                # As above; the error does not say which of several tasks it is.
                if orders[1:]:
                    raise
                self._refuse_taken(orders[0], lost)
        return [order for order in orders if id(order) not in lost]

    def _keep_given(self, order: TickOrder) -> None:
        """Keep the parameters of a task besides those of its schedule."""
        values = as_json(kept(order.parameters or {}))
        text, made_id = json.dumps({"given": values}), order.made_id

        def change(kernel: Kernel, now: int) -> None:
            kernel.keep_document(VERSIONS, made_id, text, now)

        self._host.step(change, keep=False)

    def _refuse_taken(self, order: TickOrder, lost: set[int]) -> None:
        """
        Report in an `except` that the id of a tick is taken, if it is, and go on.

        Raises:
            DuplicateTaskError: It is taken, and a caller asked for the tick.
        """
        name = order.entry.definition.name
        if self._host.is_made_by(order.made_id, name):
            return
        if order.by != "clock":
            raise  # noqa: PLE0704 - see above
        lost.add(id(order))
        self._skip(order.entry, order.slot_ns, 1, f"{order.made_id} is another task's")
        order.entry.taken_ns = self._host.wall()
        order.entry.taken = (
            f"The tick {order.slot.isoformat()} was not made: its id, "
            f"{order.made_id}, is that of another task."
        )
        _LOG.warning("schedule %s: %s", name, order.entry.taken)

    def tell(self, orders: list[TickOrder], backfill: Backfill | None = None) -> None:
        """Note which ticks were made, and the progress of their backfill."""
        if not orders:
            return
        self.has_tried = True
        moved = dict[int, tuple[LiveSchedule, TickProgress]]()
        events: list[tuple[Any, ...]] = []
        for order in orders:
            entry, tick = order.entry, order.slot_ns
            name, made_id, by = entry.definition.name, order.made_id, order.by
            events.append((ScheduleFired, name, tick, made_id, by))
            if by != "trigger":
                _, progress = moved.setdefault(
                    id(entry), (entry, entry.progress.copy())
                )
                progress.fired(tick, by)
        self._book.advance(events, moved.values(), backfill)
        with self._book.lock:
            for order in orders:
                entry = order.entry
                stem = stem_of(order.made_id)
                entry.made.pop(stem, None)
                if backfill is None:
                    # Runs of a backfill do not hold up later ticks.
                    entry.made[stem] = None
                if order.by == "clock":
                    entry.trouble = ""

    def _submit(self, orders: list[TickOrder], now: int) -> None:
        """Submit the due work of many schedules, together as far as possible."""
        refused: set[int] = set()
        for place in range(0, len(orders), BATCH):
            batch = orders[place : place + BATCH]
            accepted = [order for order in batch if id(order.entry) not in refused]
            orders_made: list[TickOrder] | None = None
            with suppress(UsageError):
                orders_made = self.make(accepted)
            if orders_made is None:
                orders_made = self._one_by_one(accepted, refused, now)
            self.tell(orders_made)
        entries = {id(order.entry): order.entry for order in orders}
        for key, entry in entries.items():
            if key not in refused:
                self._book.plan(entry)

    def _one_by_one(
        self, orders: list[TickOrder], refused: set[int], now: int
    ) -> list[TickOrder]:
        """Make each order alone; stop a schedule after a *refused* one."""
        accepted: list[TickOrder] = []
        for order in orders:
            if id(order.entry) in refused:
                continue
            try:
                accepted += self.make([order])
            except NotRunningError:
                raise
            except UsageError as error:
                refused.add(id(order.entry))
                self._refused(order.entry, error, now)
        return accepted

    def _refused(self, entry: LiveSchedule, error: UsageError, now: int) -> None:
        """Report a refused tick, and plan the next try."""
        self.has_tried = True
        ticks = chain(entry.waiting, entry.slots(entry.done_ns, now), [now])
        tick = stamp(next(ticks) / NS, "auto")
        text = f"he tick {tick} was refused, and is tried again: {error}"
        self._put_off(entry, f"T{text}.", now, str(error))
        self._say_refused(entry, text, error)

    def _say_refused(self, entry: LiveSchedule, text: str, error: UsageError) -> None:
        name = entry.definition.name
        self._host.refused(name, f"schedule {name}: t{text}", error)

    def _put_off(self, entry: LiveSchedule, trouble: str, now: int, why: str) -> None:
        """Plan another try for a due tick, and keep *why* it has no run so far."""
        with self._book.lock:
            entry.trouble = trouble
            entry.again_ns = now + AGAIN * NS
            self._book.plan(entry, entry.again_ns)
            tick, progress = entry.slot_ns, entry.progress.copy()
        if tick is not None and tick <= now and progress.refused != (tick, why):
            progress.refused = tick, why
            self._book.advance([], [(entry, progress)])

    def deployed(self, made_id: str) -> Deployed | None:
        """
        Return today's definition of a task, or run, of an existing schedule.

        Raises:
            InvalidTaskError: The schedule makes something else today, or its parameters
                are not those of what it makes.
        """
        source = self._host.made_for(made_id)
        if source.schedule is None or source.slot is None:
            return None
        with self._book.lock:
            entry = self._book.schedules().get(source.schedule)
            if entry is None:
                return None
            with suppress(InvalidTaskError):
                self._book.ensure_work(entry)
        if entry.work is None:
            return None
        tick = moment_ns("slot", source.slot, entry.times.zone) or 0
        values = self._host.given_to(made_id)
        if values is None:
            is_own = made_id == entry.definition.tick_id(tick)
            values = {} if is_own else source.parameters
        return self.deployed_for(entry, tick, made_id, values)

    def deployed_for(
        self, entry: LiveSchedule, tick: int, made_id: str, values: Mapping[str, Any]
    ) -> Deployed:
        """
        Return today's definition of a task, or run, of a tick with *values*.

        Raises:
            InvalidTaskError: The schedule makes something else today, or its parameters
                are not those of what it makes.
        """
        work, name = entry.work, entry.definition.name
        if entry.is_run != is_run(made_id):
            kinds = (
                ("a workflow", "a task") if entry.is_run else ("a task", "a workflow")
            )
            msg = f"the schedule {name} makes {kinds[0]} today, and {made_id} is of "
            msg += f"{kinds[1]}"
            hint = "definition='as_it_was' runs it again; or remove it, and backfill"
            raise InvalidTaskError(msg, hint=hint)
        if not isinstance(work, Task) and work is not None and declared_by(work):
            values = {key: values[key] for key in values if key in declared_by(work)}
        order = TickOrder(entry, tick, made_id, "backfill", (), values)
        said_by = f"schedule {name}"
        if isinstance(work, Workflow | WorkflowFunction):
            workflow, values = workflow_for(work, order)
            return Deployed(said_by, None, workflow, order.note(values))
        assert work is not None  # noqa: S101 - its caller has it
        return Deployed(said_by, task_of(work, order))
