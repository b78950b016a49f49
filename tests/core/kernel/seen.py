"""What the kernel's verbs do when they are called: seen in runs, and not said."""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import isgenerator
from types import CodeType, MappingProxyType
from typing import Any, Final, TypeAlias

from tests.core.kernel.harness import Machine, Policies

from taskorch.core.kernel import Kernel, TaskRow, fold
from taskorch.events import Event
from taskorch.model import TaskState

#: The verbs of the kernel, in the order of its door.
VERBS: Final = MappingProxyType(
    {name: verb for name, verb in vars(Kernel).items() if not name.startswith("_")}
)
#: The state of a task before an event, the class of that, whether the task waits for the
#: one that it is about, and the state after it.
Move: TypeAlias = tuple[TaskState | None, type[Event], bool, TaskState | None]


class Seen:
    """The events that each verb has made, and how often it was called."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        #: About the task that the verb is given, or about no task.
        self.own: defaultdict[str, set[type[Event]]] = defaultdict(set)
        #: About other tasks.
        self.others: defaultdict[str, set[type[Event]]] = defaultdict(set)

    def listening(self, name: str, verb: Callable[..., Any]) -> Callable[..., Any]:
        """The *verb* of that *name*, whose events are noted here."""

        @wraps(verb)
        def call(kernel: Kernel, *args: Any, **options: Any) -> Any:
            self.calls[name] += 1
            subjects = named_in(args)
            sink = [] if kernel.sink is None else kernel.sink
            before = len(sink)
            try:
                answer = verb(kernel, *args, **options)
                # Of many, each is taken in when it is asked for.
                return iter(list(answer)) if isgenerator(answer) else answer
            finally:
                for event, _ in sink[before:]:
                    about = getattr(event, "task_id", None)
                    is_own = about is None or about in subjects
                    events = self.own if is_own else self.others
                    events[name].add(type(event))

        return call


def named_in(args: tuple[Any, ...]) -> set[str]:
    """The ids of tasks that stand in the arguments of a verb."""
    names: set[str] = set()
    for each in args:
        if isinstance(each, str):
            names.add(each)
        elif isinstance(each, tuple):
            names.update(part for part in each if isinstance(part, str))
        else:
            row = getattr(each, "row", each)
            names.update([row.id] if isinstance(row, TaskRow) else [])
    return names


@contextmanager
def looking() -> Iterator[Seen]:
    """While the block runs, what the verbs of all kernels do is noted."""
    seen = Seen()
    try:
        for name, verb in VERBS.items():
            setattr(Kernel, name, seen.listening(name, verb))
        yield seen
    finally:
        for name, verb in VERBS.items():
            setattr(Kernel, name, verb)


def moves_in(machine: Machine) -> Iterator[tuple[Move, set[CodeType]]]:
    """What each event of *machine*, folded, does to states, and the code that ran."""
    ranks, backfills = machine.policies.ranks, machine.policies.backfills
    kernel = machine.folded(0, Policies(ranks=ranks, backfills=backfills))
    states: dict[str, TaskState | None] = {}
    for told, cargo in machine.sink:
        ran = set[CodeType]()
        sys.setprofile(lambda frame, event, _, ran=ran: ran.add(frame.f_code))
        try:
            fold(kernel, told, cargo)
        finally:
            sys.setprofile(None)
        about = getattr(told, "task_id", None)
        for name in {about, *kernel.tasks} - {None}:
            row = kernel.tasks.get(name)
            after = kernel.evicted.get(name) if row is None else row.state
            before = states.get(name)
            if name == about or before is not after:
                yield (before, type(told), name != about, after), ran
            states[name] = after
