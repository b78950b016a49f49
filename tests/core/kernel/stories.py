"""
Stories: what somebody says to a kernel, and all that happens then, as text.

A story has a title, and a line for each command. Behind the arrow stands which tasks
are in another state after it. Below it stand the events that say more than that, the
effects for the driver, and what was asked for. What is as usual is left out: the first
attempt, the local worker, and every empty field. A story begins at the time 1 s.

`python -m tests.core.kernel.stories` plays all stories, and writes down what happens now:
what then differs is what a change has changed.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import attrs
from tests.core.kernel.commands import EndAttempt
from tests.core.kernel.harness import SEC, Policies, S, Twin
from tests.core.kernel.sharing import Sharing

from taskorch.core.kernel import Again, Search, explain, names_of
from taskorch.core.kernel._history import past_of
from taskorch.core.kernel._reservation import reservation
from taskorch.errors import UsageError
from taskorch.events import Event, defaults_of
from taskorch.model import (
    Blocker,
    Elastic,
    NamedUnits,
    Quota,
    Resources,
    Stuck,
)

FOLDER: Final = Path(__file__).with_name("texts")
#: Where the arrow stands.
COLUMN: Final = 34
#: How long a line may be with all that happened behind the arrow.
WIDTH: Final = 110
#: What the states say already: always, or where an event has no other field.
SAID: Final = {
    "TaskSubmitted",
    "TaskStarted",
    "TaskDue",
    "AgentJoined",
    "QuotasChanged",
}
PLAIN: Final = {"TaskCompleted", "TaskResumed", "TaskSuspended", "TaskUnblocked"}
#: Options that name several, and those that are times.
MANY: Final = {"after", "requires", "writes", "gone"}
TIMES: Final = {"timeout", "keep", "grace"}
DATES: Final = {"not_before", "deadline"}
#: Options of a task that are no resources.
WORDS: Final = {
    *("type", "priority", "join", "on_failure", "idempotent", "owner", "budget"),
    "lasts",
}
ELASTIC: Final = {"weight", "fallback"}


def texts() -> list[Path]:
    """The files of all stories."""
    return sorted(FOLDER.glob("*.txt"))


def stories(path: Path) -> Iterator[str]:
    """The stories in a file, and what stands between them."""
    yield from path.read_text(encoding="utf-8").rstrip("\n").split("\n\n")


def play(story: str, look: Callable[[Twin], object] = id) -> str:
    """Do what *story* says, and tell it anew; after each line somebody may *look*."""
    stage, told = Stage(), list[str]()
    common: list[str] | None = None
    said: list[str] = []
    for line in story.split("\n"):
        if line.startswith("- "):
            # Each of these goes on from where the first of them began.
            common = said if common is None else common
            stage = Stage()
            for each in common:
                stage.act(each)
            told.append(line)
        elif not line.startswith(" "):
            told.append(line)
        elif not line.startswith("   "):
            command = line.split(" → ")[0].strip()
            told += stage.act(command)
            look(stage.m)
            said = [*said, command]
    return "\n".join(told)


# -- words -----------------------------------------------------------------------------


def value_of(word: str) -> Any:
    """What an option is: yes or no, a number, or the word."""
    if word in ("yes", "no"):
        return word == "yes"
    try:
        return int(word)
    except ValueError:
        pass
    try:
        return float(word)
    except ValueError:
        return word


def time_of(word: str) -> int:
    """The nanoseconds in `5s` or `1ns`."""
    if word.endswith("ns"):
        return int(word[:-2])
    return round(float(word.removesuffix("s")) * SEC)


def in_time(ns: int) -> str:
    return f"{ns}ns" if ns % 1_000_000 else f"{ns / SEC:g}s"


def in_words(value: Any, name: str = "") -> str:
    """A field of an event, or what was asked for, in one word."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith("_ns"):
        return in_time(value)
    if isinstance(value, (dict, tuple, list)):
        return of_several(value)
    if isinstance(value, str) and (not value or set(value) & set(" '\",\n")):
        return repr(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def of_several(values: dict[str, Any] | tuple[Any, ...] | list[Any]) -> str:
    """Amounts, or whatever there is."""
    if isinstance(values, dict) and all(map(is_number, values.values())):
        return "+".join(f"{much:g}{what}" for what, much in values.items())
    if values and all(map(is_amount, values)):
        return "+".join(f"{units / 1e6:g}{what}" for what, units in values)
    return ",".join(map(in_words, values))


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def is_amount(value: Any) -> bool:
    """Whether *value* is a resource and so many units of it."""
    return isinstance(value, tuple) and len(value) == 2 and type(value[1]) is int


def fields(said: dict[str, Any]) -> str:
    """The fields that are not empty."""
    return "".join(
        f" {name.removesuffix('_ns')}={in_words(value, name)}"
        for name, value in said.items()
        if value not in ("", 0, (), None, False, {}, [])
    )


#: What is left out of an event if it is so.
USUAL: Final[dict[str, dict[str, str]]] = {
    "Event": {
        "agent_id": "local",
        "error_type": "ValueError",
        "message": "it went wrong",
        "cause": "error",
    },
    "TaskRetrying": {"reason": "once more"},
    "TaskRetrying lost": {
        "reason": "its worker died",
        "failure_class": "system_error",
    },
    "TaskFailed": {"reason": "no more attempts"},
    "TaskCancelled": {"reason": "called off"},
    "TaskBlocked dependency": {
        "reason": "a dependency did not complete",
        "cause": "dependency",
    },
    "TaskBlocked lost": {
        "reason": "its worker died, and it is not safe to run twice: decide()"
    },
    "AttemptStopping cancel": {"reason": "called off"},
    "AttemptStopping timeout": {"reason": "the timeout is over"},
    "AttemptStopping suspend": {
        "reason": "suspended by the user: at its next checkpoint; without one it runs "
        "to its end"
    },
    "LateResultIgnored": {"outcome": "completed"},
}


def subject(task_id: str, attempt: int = 1) -> str:
    return task_id if attempt in (0, 1) else f"{task_id}#{attempt}"


def event_line(event: Event) -> str:
    """An event in a line; "" if the states say the same."""
    name = type(event).__name__
    values = [*event[3:], *[None] * len(defaults_of(type(event)))]
    said = dict(zip(type(event).__match_args__[2:], values, strict=False))
    about = next(iter(said.values()), "") if "task_id" not in said else said["task_id"]
    del said[next(iter(said))]
    who = subject(in_words(about), said.pop("attempt", 1))
    for key in ("Event", name, f"{name} {said.get('why') or said.get('cause')}"):
        for field, word in USUAL.get(key, {}).items():
            if said.get(field) == word:
                del said[field]
    rest = fields(said)
    if name in SAID or (name in PLAIN and not rest):
        return ""
    return f"{name} {who}".rstrip() + rest


# -- who acts --------------------------------------------------------------------------


class Stage:
    """A kernel, its events folded into a second one, and who tells what it does."""

    def __init__(self) -> None:
        self.machine: Twin | None = None

    @property
    def m(self) -> Twin:
        if self.machine is None:
            self.given()
        assert self.machine is not None
        return self.machine

    def act(self, line: str) -> list[str]:
        """Obey the commands of a *line*; it, and all that happened."""
        machine = self.m if not line.startswith("given") else self.given(line)
        before, events, effects = self.here()
        told: list[str] = []
        for command in line.split("; "):
            verb, *words = shlex.split(command)
            try:
                told += self.obey(verb, words)
            except UsageError as error:
                told.append(f"{type(error).__name__}: {error}")
            if verb == "taught":
                # That was before the story.
                before, events, effects = self.here()
        new = [event for event, _ in machine.sink[events:]]
        lines = [
            f"{said}{self.when(event)}" for event in new if (said := event_line(event))
        ]
        for effect in machine.effects[effects:]:
            row = getattr(effect, "row", None)
            who = "" if row is None else subject(row.id, getattr(effect, "attempt", 1))
            lines.append(f"{type(effect).__name__} {who}".rstrip())
        changed = self.changed(before, new)
        short = [*filter(None, [changed]), *lines, *told]
        first = f"  {line}"
        whole = f"{first:<{COLUMN}} → {'; '.join(short)}"
        if not short:
            return [first]
        if len(whole) <= WIDTH and len(told) < 2:
            return [whole]
        if changed:
            first = f"{first:<{COLUMN}} → {changed}"
        return [first, *(f"    {each}" for each in lines + told)]

    def obey(self, verb: str, words: list[str]) -> list[str]:
        """One command, which the machine may know by the same name; what it answers."""
        mine = getattr(self, f"do_{verb}", None)
        if mine is not None:
            return mine(*words) or []
        getattr(self.m, verb)(*words)
        return []

    def when(self, event: Event) -> str:
        """The time of an event, where it was before the end of the line."""
        at = event[2]
        return "" if at == self.m.now else f" at {in_time(at)}"

    def here(self) -> tuple[dict[str, str], int, int]:
        """What all tasks are up to, and how much has been told so far."""
        return self.states(), len(self.m.sink), len(self.m.effects)

    def states(self) -> dict[str, str]:
        """What each task is up to."""
        kernel = self.m.kernel
        found = {
            name: f"{kernel.evicted.get(name).name} (gone)"
            for name in kernel.evicted.by_id
        }
        for name, row in kernel.tasks.items():
            found[name] = row.state.name
            if row.attempt > 1:
                found[name] += f" #{row.attempt}"
            if row.state is S.RUNNING and row.worker and row.worker.name != "local":
                found[name] += f" on {row.worker.name}"
        return found

    def changed(self, before: dict[str, str], new: list[Event]) -> str:
        """The tasks that are in another state, in the order in which they came to it."""
        after = self.states()
        latest = {
            task_id: (number, self.when(event))
            for number, event in enumerate(new)
            if (task_id := getattr(event, "task_id", None)) is not None
        }
        names = [name for name, state in after.items() if before.get(name) != state]
        names.sort(key=lambda name: latest.get(name, (-1, ""))[0])
        for name in names:
            after[name] += latest.get(name, (-1, ""))[1]
        groups: list[tuple[str, list[str]]] = []
        for name in names:
            if not groups or groups[-1][0] != after[name]:
                groups.append((after[name], []))
            groups[-1][1].append(name)
        return ", ".join(f"{' '.join(some)} {state}" for state, some in groups)

    # -- the world -----------------------------------------------------------------

    def do_given(self, *words: str) -> None:
        """Nothing more: it is done before anything else."""

    def given(self, line: str = "given") -> Twin:
        """The settings, the pools, and what the policies are like."""
        words = tuple(shlex.split(line.split("; ", maxsplit=1)[0])[1:])
        options, pools = self.options(words, KERNEL | POLICIES)
        kind = Sharing if options.pop("sharing", False) else Policies
        policies = kind() if kind is Sharing else Policies(rigid=False)
        if options.pop("watched", False):
            policies.watches = None
        for name in POLICIES & options.keys():
            setattr(policies, name, options.pop(name))
        self.machine = Twin(
            policies=policies, pools=Resources(**pools) if pools else None, **options
        )
        return self.machine

    def options(
        self, words: tuple[str, ...], known: set[str]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Those of *words* that are options, and the amounts of resources."""
        options: dict[str, Any] = {}
        amounts: dict[str, Any] = {}
        for word in words:
            name, _, text = word.partition("=")
            if name in MANY:
                options[name] = tuple(text.split(",")) if text else ()
            elif name in TIMES:
                options[f"{name}_ns"] = time_of(text)
            elif name in DATES:
                options[name] = self.m.now + time_of(text)
            elif name in known:
                options[name] = value_of(text) if text else True
            else:
                amounts[name] = value_of(text)
        return options, amounts

    def asked(self, words: tuple[str, ...]) -> dict[str, Any]:
        """The options of a task."""
        known = WORDS | ELASTIC
        waits = [word for word in words if word.startswith("wait=")]
        plain = tuple(word for word in words if word not in waits)
        options, amounts = self.options(plain, known)
        least = {
            name.removeprefix("least."): amounts.pop(name)
            for name in list(amounts)
            if name.startswith("least.")
        }
        elastic = {name: options.pop(name) for name in ELASTIC & options.keys()}
        spends = {
            name.removeprefix("spends."): amounts.pop(name)
            for name in list(amounts)
            if name.startswith("spends.")
        }
        if spends:
            options["spends"] = Resources(**spends).units
        if "elastic" in amounts:
            del amounts["elastic"]
            options["resources"] = Elastic(amounts, min=least or None, **elastic)
        elif amounts:
            options["resources"] = Resources(**amounts)
        for word in waits:
            name, seconds, *default = word.removeprefix("wait=").split(",")
            time = None if seconds == "-" else time_of(seconds)
            options["wait"] = (name or None, time, bool(default))
        return options

    # -- commands ------------------------------------------------------------------

    def do_agent(self, name: str, *words: str) -> None:
        """A worker joins, which can do what is said, and has what it has."""
        skills = [word for word in words if "=" not in word]
        rest = tuple(word for word in words if "=" in word)
        options, amounts = self.options(rest, {"slots", "lease"})
        if "slots" in options:
            options["max_concurrency"] = options.pop("slots")
        if amounts:
            options["capacity"] = amounts_of(amounts)
        self.m.worker(name, *skills, **options)

    def do_submit(self, *words: str) -> None:
        names = [word for word in words if "=" not in word and word != "elastic"]
        rest = tuple(word for word in words if word not in names)
        options = self.asked(rest)
        if (lasts := options.pop("lasts", None)) is not None:
            self.m.policies.lengths.update(dict.fromkeys(names, lasts))
        self.m.submit_all(*names, **options)

    def do_taught(self, time: str, *words: str) -> None:
        """Two tasks have run, and taken so long: what is alike is expected to."""
        for _ in range(2):
            past = [name for name in self.m.kernel.tasks if name.startswith("past")]
            name = f"past{len(past) + 1}"
            self.m.submit(name, **self.asked(words))
            self.m.after(time_of(time))
            self.m.end(name)

    def do_end(self, task_id: str, *words: str) -> None:
        """An attempt ends, in some way, with an error, and with what it has used."""
        how = [word for word in words if "=" not in word]
        rest = tuple(word for word in words if "=" in word)
        options, amounts = self.options(rest, {"error", "epoch"})
        name, _, attempt = task_id.partition("#")
        error = None
        if "error" in options:
            kind, _, message = options["error"].partition(":")
            error = ERRORS[kind](message.strip())
        usage, number = Resources(**amounts).units, int(attempt) if attempt else None
        if "epoch" in options:
            # As it is told from elsewhere, with the incarnation of ours that began it.
            ends = EndAttempt(name, number or 1, *how or ["completed"], error)
            self.m.do(attrs.evolve(ends, epoch=options["epoch"], usage=usage))
        else:
            self.m.end(name, *how, attempt=number, error=error, usage=usage)

    def do_change(self, task_id: str, *words: str) -> None:
        """A task has other options."""
        options = self.asked(words)
        names = [
            word.partition("=")[0]
            for word in words
            if word.partition("=")[0] in (*DATES, "priority")
        ]
        self.m.change(task_id, *names, **options)

    def do_hold(self, task_id: str) -> None:
        """Suspend a program where it stands."""
        self.m.suspend(task_id, holdable=True)

    def do_parents(self, task_id: str, *after: str) -> None:
        self.m.add_parents(task_id, *after)

    def do_priority(self, task_id: str, priority: str) -> None:
        self.m.prioritise(task_id, int(priority))

    def do_after(self, time: str) -> None:
        self.m.after(time_of(time))

    def do_emit(self, name: str, *words: str) -> None:
        options, _ = self.options(words, set())
        self.m.emit(name, keep=options.get("keep_ns", 0))

    def do_checkpoint(self, *ids: str) -> None:
        for task_id in ids:
            name, _, attempt = task_id.partition("#")
            self.m.checkpoint(name, int(attempt or 0))

    def do_quota(self, *words: str) -> None:
        """Whoever is named may have so much at once; after `and`, somebody else."""
        quotas = []
        for each in " ".join(words).split(" and "):
            options, amounts = self.options(tuple(each.split()), QUOTA)
            quotas.append(Quota(**options, resources=amounts))
        self.m.change_quotas(*quotas)

    def do_pools(self, *words: str) -> None:
        """Let there be so much: a number, or units that have names."""
        options, amounts = self.options(words, set())
        named = {
            name: NamedUnits(*str(text).split("/")[1:])
            for name, text in amounts.items()
            if "/" in str(text)
        }
        self.m.change_pools(**options, **amounts | named)

    def do_budget(self, name: str, *words: str) -> None:
        """There is a budget, or it has another size."""
        # Budgets are an extension, and other stories need none.
        from taskorch.ext.budgets._kernel import change_budget, declare_budget

        options, amounts = self.options(words, {"parent"})
        kernel, now, units = self.m.kernel, self.m.now, Resources(**amounts).units
        if name in kernel.budgets:
            change_budget(kernel, name, units, now)
        else:
            declare_budget(kernel, name, units, options.get("parent", ""), now)
        self.m.settle()

    def do_spend(self, task_id: str, *words: str) -> None:
        """A running attempt tells what it has spent."""
        _, amounts = self.options(words, set())
        name, _, attempt = task_id.partition("#")
        units, row = Resources(**amounts).units, self.m.row(name)
        self.m.kernel.spend(row, int(attempt or row.attempt), units, self.m.now)

    def do_allocate(self, allocation_id: str, *words: str) -> None:
        options, amounts = self.options(words, {"owner"})
        self.m.allocate(allocation_id, options.get("owner", "ann"), **amounts)

    def do_beat(self, worker: str, *attempts: str) -> list[str]:
        """A worker gives a sign of life, and names attempts; what it is to stop."""
        named = [each.partition("#")[::2] for each in attempts]
        stops = self.m.beat(worker, *((name, int(n or 1)) for name, n in named))
        return [f"stop {subject(*each)}" for each in stops]

    def do_yield(self, task_id: str) -> None:
        """An attempt waits for another task: its slot is free."""
        row = self.m.row(task_id)
        self.m.kernel.yield_slot(row, row.attempt, self.m.now)
        self.m.settle()

    def do_reclaim(self, task_id: str) -> list[str]:
        """It goes on, if there is a slot."""
        row = self.m.row(task_id)
        has = self.m.kernel.reclaim_slot(row, row.attempt, self.m.now)
        self.m.settle()
        return ["it has its slot" if has else "it waits for a slot"]

    def do_pause(self) -> None:
        self.m.kernel.pause()

    def do_unpause(self) -> None:
        self.m.kernel.unpause()
        self.m.settle()

    # -- what policies say -----------------------------------------------------------

    def do_retries(self, task_id: str, *delays: str) -> None:
        """The retry handler lets it try again, after each of these."""
        self.m.policies.delays[task_id] = [time_of(delay) for delay in delays]

    def do_asks(self, task_id: str, question: str) -> None:
        """The retry handler asks a person."""
        self.m.policies.chosen[task_id] = Again(retry=False, ask=question)

    def do_breaks(self, component: str) -> None:
        self.m.policies.broken.add(component)

    def do_refuses(self, why: str | None = None) -> None:
        """The allocator grants nothing, or again what there is."""
        self.m.policies.refuses = lambda row, worker: why

    def do_expects(self, *words: str) -> None:
        """How long tasks are expected to take, in seconds."""
        _, lengths = self.options(words, set())
        self.m.policies.lengths.update(lengths)

    def do_vetoes(self, task_id: str, state: str, why: str = "") -> None:
        self.m.policies.vetoes[task_id, S[state]] = why

    def do_allows(self) -> None:
        self.m.policies.vetoes.clear()

    # -- questions -----------------------------------------------------------------

    def do_why(self, task_id: str) -> list[str]:
        """What keeps a task from starting, and the kinds of what would help."""
        told = explain(self.m.kernel, self.m.row(task_id), self.m.now, whole=True)
        lines = [
            f"{'then: ' * (blocker in told.then)}{blocker} {values_of(blocker)}"
            for blocker in (*told.blockers, *told.then)
        ]
        return lines or ["nothing"]

    def do_explain(self, task_id: str) -> list[str]:
        """What is said to people."""
        row = self.m.row(task_id)
        told = explain(self.m.kernel, row, self.m.now, whole=True)
        return [line for line in str(told).splitlines() if line != CHOSEN]

    def do_guess(self, task_id: str) -> list[str]:
        """When it may start, and what that rests on."""
        row, now = self.m.row(task_id), self.m.now
        told = explain(self.m.kernel, row, now, whole=True, estimates=True).estimate
        if told is None:
            return ["nothing"]
        when = "unknown" if told.seconds is None else f"{told.seconds:g}s"
        return [f"{when}: {told.basis}"]

    def do_reserved(self) -> list[str]:
        """For whom backfill scheduling keeps what it needs, and what is left beside."""
        kept = reservation(self.m.kernel, self.m.now)
        if kept is None:
            return ["nothing"]
        when = "at a time that nobody knows"
        if kept.start_ns is not None:
            when = f"in {in_time(kept.start_ns - self.m.now)}"
        spare = {
            name or "slots": units / 1e6 if name else units
            for (worker, name), units in kept.spare.items()
            if not worker and ":" not in name
        }
        where = "nobody" if kept.worker is None else kept.worker.name
        return [f"for {kept.row.id} on {where}, {when}: {in_words(spare)} left"]

    def do_stuck(self) -> list[str]:
        """What can never proceed, and what would help."""
        search = Search(self.m.kernel, self.m.now, {})
        for _ in search.slices():
            pass
        lines = []
        for group in search.groups:
            lines.append(f"{' '.join(group.tasks)}: {group.detail} {values_of(group)}")
            lines += [f"  → {remedy}" for remedy in group.remedies]
        return lines or ["nothing"]

    def do_kinds(self, task_id: str) -> list[str]:
        """The kinds of what keeps a task from starting."""
        return [", ".join(self.m.kinds(task_id)) or "nothing"]

    def do_look(self, *ids: str) -> list[str]:
        """What is known of tasks, or of all there is."""
        return [self.of(name) for name in ids] if ids else self.books()

    def of(self, task_id: str) -> str:
        row, kernel = self.m.row(task_id), self.m.kernel
        known: dict[str, Any] = {
            "holds": [each for each in row.alloc if ":" not in each[0]],
            "units": names_of(kernel, row.alloc),
        }
        if row.extra is not None:
            known |= {name: getattr(row.extra, name) for name in KNOWN}
        return f"{task_id}:{fields(known) or ' nothing'}"

    def do_history(self, task_id: str) -> list[str]:
        """What a task has been so far, and why."""
        return [
            ", ".join(
                f"{state} ({why})" if why else str(state)
                for state, _, why in past_of(self.m.row(task_id))
            )
        ]

    def books(self) -> list[str]:
        """Slots, pools, workers, and whether nothing would happen by itself."""
        kernel = self.m.kernel
        counts = {
            "running": kernel.running,
            "pending": kernel.pending,
            "blocked": kernel.blocked,
            "delayed": kernel.delayed,
            "leaked": [subject(*each) for each in kernel.leaked],
            "retries": kernel.retries_scheduled,
            "recovered": kernel.retries_recovered,
            "exhausted": kernel.retries_exhausted,
            "causes": [f"{n} {cause}" for cause, n in kernel.causes.items()],
            "due": [in_time(due - self.m.now) for due in [kernel.next_due()] if due],
            "quiescent": kernel.quiescent(),
        }
        said = [fields(counts).strip()]
        said += [
            f"{name}={pool.used / 1e6:g}/{pool.total / 1e6:g}"
            for name, pool in kernel.pools.items()
            # Quotas are pools that nobody asks for.
            if ":" not in name
        ]
        for name, budget in kernel.budgets.items():
            for what, spent in budget.spent.items():
                kept = budget.pools[what].used - spent
                said.append(f"{name}: {in_words(((what, spent),))} spent")
                if kept:
                    said[-1] += f", {in_words(((what, kept),))} kept"
        for name, worker in kernel.workers.items():
            counts = {
                each: getattr(worker, each)
                for each in ("running", "leaked", "completed", "failed", "lost")
            }
            if fields(counts):
                said.append(f"{name}:{fields(counts)}")
        return ["; ".join(filter(None, said))]


def amounts_of(amounts: dict[str, Any]) -> Resources:
    """Resources, of which some are units that have names: `gpu=/a/b`."""
    return Resources(
        **{
            name: NamedUnits(*text.split("/")[1:]) if isinstance(text, str) else text
            for name, text in amounts.items()
        }
    )


#: What is said of whatever runs, or did, where nothing else is.
CHOSEN: Final = "Its worker, local, was chosen because: first of 1."


def values_of(told: Blocker | Stuck) -> str:
    """What a blocker or a group says beside its sentence, and its remedies."""
    said = {k: v for k, v in told.to_dict().items() if k not in BESIDE}
    remedies = []
    for remedy in told.remedies:
        helps = {
            k: v for k, v in remedy.to_dict().items() if k not in ("kind", "detail")
        }
        remedies.append(f"{remedy.kind}{fields(helps)}")
    return f"[{'; '.join([told.kind + fields(said), *remedies])}]"


#: What stands beside the values of a blocker or of a group.
BESIDE: Final = {"kind", "detail", "tasks", "remedies"}
#: Settings of the kernel, and what policies are like.
KERNEL: Final = {"concurrency", "keep_finished", "refuse_unknown"}
POLICIES: Final = {"rigid", "ranks", "backfills", "sharing", "watched", "keeps_match"}
#: Whom a quota is for, and what else it says beside amounts.
QUOTA: Final = {
    *("owner", "type", "workflow", "max_parallel", "starts_per_second", "burst"),
    "soft",
}
#: What is known of a task that is neither in its state nor in an event.
KNOWN: Final = (
    "priority",
    "charged",
    "crashes",
    "usage",
    "blocked_by",
    "roots",
    "first_roots",
    "decision",
    "last_delay_ns",
    "limit_ns",
    "stop",
    "suspending",
    "held",
    "yielded",
    "rerun_of",
    "rerun_id",
)
ERRORS: Final[dict[str, Callable[[str], Exception]]] = {
    "KeyError": KeyError,
    "OSError": OSError,
    "ValueError": ValueError,
}


def main(names: list[str]) -> None:
    """Write the stories of these files anew, or of all."""
    for path in texts():
        if not names or path.stem in names:
            told = [
                story if story.startswith("#") else play(story)
                for story in stories(path)
            ]
            path.write_text("\n\n".join(told) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
