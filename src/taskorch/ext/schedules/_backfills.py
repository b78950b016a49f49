"""
The runs of backfills: past ticks of schedules, a few at a time.

A backfill first decides on its next ticks, and keeps the decision with the ids that
each had before. Then it makes their runs, and keeps that with the event of the tick. So
after a kill, exactly the decided runs are made that do not exist.

Decisions: extensions, schedules.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any, Final

import attrs

from taskorch.core.runs._versions import AS_IT_WAS, Deployed
from taskorch.core.workflows._parameters import DIGESTS, TICK, as_text
from taskorch.errors import (
    DuplicateTaskError,
    InvalidTaskError,
    NotRunningError,
    UnknownTaskError,
    UsageError,
)
from taskorch.ext.schedules._backfill import (
    NOT_YET,
    Backfill,
    Backfilled,
    TickRun,
)
from taskorch.ext.schedules._book import ScheduleBook
from taskorch.ext.schedules._entry import (
    LiveSchedule,
    TickOrder,
    as_plain,
    id_with,
    plain_parameters,
    ticks_between,
    values_of,
)
from taskorch.ext.schedules._host import CONTROLLER, ScheduleHost, is_run
from taskorch.ext.schedules._ticks import AGAIN, BATCH, Ticks
from taskorch.ext.schedules._times import moment_ns
from taskorch.kit.fence import log_of
from taskorch.kit.limits import NS
from taskorch.model import TERMINAL, TaskState
from taskorch.model.ids import stem_of

#: The largest number of ticks of one backfill.
_MOST: Final = 100_000
_LOG: Final = log_of(__name__)


class BackfillRuns:
    """The part that begins the runs of backfills, and notes how they end."""

    def __init__(self, host: ScheduleHost, book: ScheduleBook, ticks: Ticks) -> None:
        self._host = host
        self._book = book
        self._ticks = ticks

    def begin(
        self,
        name: str,
        since: datetime | str | float,
        until: datetime | str | float,
        parameters: Mapping[str, Any] | None,
        *,
        again: bool,
        **options: Any,
    ) -> Backfilled:
        """Begin a backfill: see `ScheduleManager.backfill`."""
        ticks = self._ticks_between(name, since, until)
        ids: list[str] = []
        already: list[str] = []
        with self._book.making:
            entry = self._book.entry(name, makes=True)
            values = plain_parameters(entry, parameters, ticks)
            for place in range(0, len(ticks), BATCH):
                part = self._ids_with(entry, ticks[place : place + BATCH], values)
                existing = self._host.known(part)
                open_ids = (
                    existing - self._host.ended([*existing]) if again else existing
                )
                ids += part
                already += [made_id for made_id in part if made_id in open_ids]
            if len(already) == len(ids):
                return Backfilled(ids, already)
            now = self._host.wall()
            backfill = Backfill(
                f"{name}-backfill-{self._book.next_number()}",
                name,
                entry.definition.timing(),
                moment_ns("since", since, entry.times.zone) or 0,
                min(moment_ns("until", until, entry.times.zone) or 0, now),
                parameters=values,
                again=again,
                begun_ns=now,
                asked_ns=self._host.now(),
                ticks=len(ticks),
                **options,
            )
            self._book.add_backfill(backfill)
            self._book.claim(entry)
            try:
                self._work_off(backfill.backfill_id, now)
            except NotRunningError:
                raise
            except UsageError as error:
                runs = self._book.backfills()[backfill.backfill_id].runs
                is_begun = any(run.is_begun for run in runs.values())
                if isinstance(error, InvalidTaskError) and not is_begun:
                    # Another try would fail, too, because the run is invalid.
                    self._book.drop_backfills([backfill.backfill_id])
                    raise
                self._is_refused(backfill.backfill_id, error, now)
        self._host.orch.drivers.wake(CONTROLLER)
        return Backfilled(ids, already, backfill.backfill_id)

    def call_off(self, backfill_id: str, reason: str, *, running: bool) -> bool:
        """Cancel a backfill: see `ScheduleManager.cancel_backfill`."""
        with self._book.making:
            backfill = self._book.backfill(backfill_id)
            if backfill.is_over and not (running and backfill.runs):
                return False
            changed = self.called_off(backfill, reason)
            self._book.keep_backfill(changed)
            entry = self._book.schedules().get(changed.schedule)
            if entry is not None:
                self._book.claim(entry)
                self._book.plan(entry)
            if running:
                self._ticks.cancel([*changed.runs], reason)
        self._host.orch.drivers.wake(CONTROLLER)
        return True

    def pause(self, backfill_id: str, reason: str) -> bool:
        """Start no run until `resume`; return False if there is no need."""
        with self._book.making:
            backfill = self._book.backfill(backfill_id)
            if backfill.is_over or backfill.paused:
                return False
            self._book.keep_backfill(attrs.evolve(backfill, paused=reason))
        return True

    def resume(self, backfill_id: str) -> bool:
        """Go on, after a failure too; return False if it is not paused."""
        with self._book.making:
            backfill = self._book.backfill(backfill_id)
            if not backfill.paused:
                return False
            self._book.keep_backfill(
                attrs.evolve(backfill, paused="", trouble="", look_ns=0)
            )
        self._host.orch.drivers.wake(CONTROLLER)
        return True

    def _ticks_between(
        self, name: str, since: datetime | str | float, until: datetime | str | float
    ) -> list[int]:
        """Return the ticks of a backfill."""
        entry = self._book.entry(name)
        first = moment_ns("since", since, entry.times.zone)
        last = moment_ns("until", until, entry.times.zone)
        if first is None or last is None or last < first:
            msg = "backfill goes from a moment to a later one"
            raise InvalidTaskError(msg)
        coming = ticks_between(entry.definition, first, min(last, self._host.wall()))
        ticks = [*islice(coming, _MOST + 1)]
        if len(ticks) > _MOST:
            msg = f"more than {_MOST:,} ticks are between the two"
            raise InvalidTaskError(msg, hint="backfill in parts")
        return ticks

    def foreseen(
        self, name: str, since: datetime | str | float, until: datetime | str | float
    ) -> tuple[list[str], set[str]]:
        """Return the ids of all ticks of a backfill, and the ids that exist."""
        ticks = self._ticks_between(name, since, until)
        definition = self._book.entry(name).definition
        names = [definition.tick_id(tick) for tick in ticks]
        return names, self._host.known(names)

    def say_unended(self) -> None:
        """Warn of each backfill that the end of the block cuts short."""
        for each in self._book.all_backfills():
            if each.goes_on and not each.is_over:
                _LOG.warning(
                    "the block ends before a backfill does: orch.wait() waits for it; "
                    "with a journal, the next program goes on with it. %s",
                    each.status(),
                )

    def work_off(self, backfill_ids: list[str], now: int) -> None:
        """Let each of some backfills go on; report the ones that are refused."""
        with self._book.making:
            for backfill_id in backfill_ids:
                try:
                    self._work_off(backfill_id, now)
                except NotRunningError:
                    raise
                except UsageError as error:
                    self._is_refused(backfill_id, error, now)

    def _work_off(self, backfill_id: str, now: int) -> None:
        """
        Note which runs of a backfill have ended, and begin those that may begin.

        Raises:
            UsageError: One was refused.
        """
        backfill = self._book.backfills().get(backfill_id)
        if backfill is None:
            return
        changed = attrs.evolve(self._with_ends(backfill), trouble="")
        entry: LiveSchedule | None = None
        refusal: UsageError | None = None
        if changed.may_begin:
            try:
                entry = self._book.entry(backfill.schedule, makes=True)
                changed = self._with_next(entry, changed)
            except NotRunningError:
                raise
            except UsageError as error:
                refusal = error
        if not changed.ended_ns and changed.state == "done":
            changed.ended_ns = now
            log = _LOG.warning if changed.failed else _LOG.info
            log("%s", changed.status())
        if changed.text() != backfill.text():
            self._book.keep_backfill(changed, keep=False)
        else:
            self._book.backfills()[backfill_id] = changed
        if refusal is not None:
            raise refusal
        if entry is not None:
            self._begin(entry, changed)
            if changed.may_begin:
                # Many ticks had their run already; others get their turn before the
                # next ones.
                changed.look_ns = now
                return
        # The driver wakes it when one of its runs has changed.
        changed.look_ns = NOT_YET

    def _with_ends(self, backfill: Backfill) -> Backfill:
        """Return a backfill with its ended runs counted and removed."""
        begun = [made_id for made_id, run in backfill.runs.items() if run.is_begun]
        states = self._host.states_of_all(begun)
        runs = dict(backfill.runs)
        done, failures, blocked = backfill.done, list[str](), list[str]()
        for made_id in begun:
            state = states.get(made_id, TaskState.COMPLETED)
            if state is TaskState.BLOCKED:
                blocked.append(made_id)
            elif state in TERMINAL:
                del runs[made_id]
                if state is TaskState.COMPLETED:
                    done += 1
                else:
                    failures.append(made_id)
        paused = backfill.paused
        stops = backfill.stop_on_failure and not (paused or backfill.is_over)
        fresh = [each for each in blocked if each not in backfill.blocked]
        if stops and (failures or fresh):
            why = "failed" if failures else "waits for a person or an event"
            paused = f"{(failures or fresh)[0]} {why}"
            _LOG.warning("backfill %s is paused: %s", backfill.backfill_id, paused)
        return attrs.evolve(
            backfill,
            runs=runs,
            done=done,
            failed=backfill.failed + len(failures),
            failures=backfill.named_failures(failures),
            blocked=tuple(blocked),
            paused=paused,
        )

    def _with_next(self, entry: LiveSchedule, backfill: Backfill) -> Backfill:
        """Return a backfill with its next ticks, as far as they may begin."""
        ticks = self._book.ticks_of_backfill(backfill)
        place, already = backfill.place, backfill.already
        runs, free, looked = dict(backfill.runs), backfill.free, 0
        now = self._host.now()
        while free > 0 and place < len(ticks) and looked < BATCH:
            # Usually no tick has its run already, or all have.
            part = ticks[place : place + (BATCH if looked else free)]
            names = self._ids_with(entry, part, backfill.parameters)
            existing = self._host.known(names)
            ended = self._host.ended([*existing]) if backfill.again else set[str]()
            for tick, made_id in zip(part, names, strict=True):
                if free == 0:
                    break
                place, looked = place + 1, looked + 1
                is_over = made_id in ended and self._host.had_ended(
                    made_id, backfill.asked_ns
                )
                if made_id in runs or (made_id in existing and not is_over):
                    already += 1
                    continue
                before = self._host.latest(made_id) if made_id in existing else ""
                runs[made_id] = TickRun(tick, before, now)
                free -= 1
        return attrs.evolve(backfill, runs=runs, place=place, already=already)

    def called_off(self, backfill: Backfill, why: str) -> Backfill:
        """Return a backfill that starts no more runs."""
        existing = self._host.known([*backfill.runs])
        # An incarnation that was killed may have made a run without a note of it.
        runs = {
            made_id: attrs.evolve(run, is_begun=True)
            for made_id, run in backfill.runs.items()
            if run.is_begun
            or (made_id in existing and run.before in ("", made_id))
            or (run.before and self._host.latest(made_id) != run.before)
        }
        return attrs.evolve(
            backfill,
            runs=runs,
            cancelled=backfill.cancelled or why,
            paused="",
            trouble="",
            look_ns=0,
            ended_ns=backfill.ended_ns or self._host.wall(),
        )

    def _begin(self, entry: LiveSchedule, backfill: Backfill) -> None:
        """
        Make the runs that are decided and not made yet, and note each.

        Raises:
            UsageError: One was refused.
        """
        begun: list[TickOrder] = []
        try:
            for made_id, run in backfill.runs.items():
                if not run.is_begun:
                    begun.append(self._begin_one(entry, backfill, made_id, run))
        finally:
            if begun:
                for order in begun:
                    made_id = stem_of(order.made_id)
                    run = attrs.evolve(backfill.runs[made_id], is_begun=True)
                    backfill.runs[made_id] = run
                self._ticks.tell(begun, backfill)

    def _begin_one(
        self, entry: LiveSchedule, backfill: Backfill, made_id: str, run: TickRun
    ) -> TickOrder:
        """Make the run of one tick, unless a killed incarnation has made it."""
        # With other parameters, the tick itself stays undecided.
        is_own = made_id == entry.definition.tick_id(run.slot_ns)
        by = "backfill" if is_own else "trigger"
        order = TickOrder(entry, run.slot_ns, made_id, by, (), backfill.parameters)
        if run.before:
            deployed: Deployed | None = None
            if backfill.which != AS_IT_WAS:
                deployed = self._ticks.deployed_for(
                    entry, run.slot_ns, made_id, backfill.parameters
                )
            if is_run(made_id):
                if deployed is None or not self._host.go_over(
                    made_id, deployed, run.asked_ns
                ):
                    self._host.run_again(made_id, run.asked_ns)
                return order
            latest = self._host.latest(made_id)
            if latest == run.before:
                if deployed is not None and self._host.go_over(
                    made_id, deployed, run.asked_ns
                ):
                    latest = self._host.latest(made_id)
                else:
                    latest = self._host.again(made_id, downstream=False)
            return attrs.evolve(order, made_id=latest)
        if not self._host.known([made_id]):
            self._ticks.make([order])
        return order

    def _ids_with(
        self, entry: LiveSchedule, ticks: list[int], parameters: Mapping[str, Any]
    ) -> list[str]:
        """
        Return the ids of the runs of ticks with these parameters besides the own ones.

        Raises:
            InvalidTaskError: The work has no such parameters, or no id can hold them.
        """
        values = [values_of(entry, tick, parameters) for tick in ticks]
        ids = [id_with(entry, *each) for each in zip(ticks, values, strict=True)]
        taken = self._host.known(ids) if any(values) else set[str]()
        for number, made_id in enumerate(ids):
            if values[number] and made_id in taken:
                ids[number] = self._id_that_is_for(entry, ticks[number], values[number])
        return ids

    def _id_that_is_for(
        self, entry: LiveSchedule, tick: int, values: Mapping[str, Any]
    ) -> str:
        """
        Return an id that is free or has these parameters, as hashes may collide.

        Raises:
            DuplicateTaskError: There is none.
        """
        made_id = ""
        for length in DIGESTS:
            made_id = id_with(entry, tick, values, length)
            try:
                noted = self._host.parameters_of(made_id)
            except UnknownTaskError:
                return made_id
            if as_text(as_plain(noted, has_tick=TICK in values)) == as_text(values):
                return made_id
        msg = f"{made_id} has other parameters"
        hint = "orch.schedules.trigger(name, parameters) makes an id of its own"
        raise DuplicateTaskError(msg, hint=hint, task_id=made_id)

    def _is_refused(self, backfill_id: str, error: UsageError, now: int) -> None:
        """Note that a run was refused, and plan the next try."""
        with self._book.lock:
            backfill = self._book.backfill(backfill_id)
            name, text = (
                backfill.schedule,
                f"run was refused, and is tried again: {error}",
            )
            entry = self._book.schedules().get(name)
            is_unsaid = entry is not None and entry.work is None
            backfill.look_ns = now + AGAIN * NS
            if not is_unsaid:
                backfill.trouble = f"A {text}."
            elif now < self._book.declared_by:
                backfill.look_ns = self._book.declared_by
            else:
                backfill.trouble = (
                    f"It waits until orch.schedules.add({name!r}, …) says what to run."
                )
            self._book.came_further.notify_all()
        if not is_unsaid:
            # Of a schedule that is not declared, the book tells.
            self._host.refused(name, f"backfill {backfill_id}: a {text}", error)

    def wait(self, timeout: float) -> bool:
        """
        Wait until a backfill has made progress, if one goes on by itself.

        Returns:
            Whether one did.
        """
        backfills = [each for each in self._book.all_backfills() if each.goes_on]
        for each in backfills:
            each.look_ns = 0
        if not backfills:
            return False
        self._host.orch.drivers.wake(CONTROLLER)
        with self._book.lock:
            if any(each.look_ns == 0 for each in backfills):
                self._book.came_further.wait(timeout)
        return True
