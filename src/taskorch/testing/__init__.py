"""
Tools for the tests of those who use taskorch.

    from taskorch.testing import Simulation

    simulation = Simulation(seed=1, router=MyRouter())

1. `Simulation`: an orchestrator in virtual time, with everything around it in your
   hands; `Faults` break it, and after every step the guarantees are checked: a `Breach`
   names the one that does not hold (see the docs, "What is watched").
2. `minimise`: the few faults and commands that make a simulation fail.
3. `taskorch.testing.laws`: whether a class of yours keeps the laws of its protocol.
4. `make_task`, `make_agent`, `make_pool`, `make_owner`, `make_context`, `make_failure`:
   arguments of policies, made by hand.
5. `event`, `matching`, `assert_events`, `capture_events`: tests of events.
6. `for_every_crash_point`, `crash_at`: kill a process that writes a journal, for real.
7. `taskorch.testing.strategies`: for hypothesis. `taskorch.testing.pytest_plugin`:
   fixtures; pytest finds it by itself.

Nothing here is imported by the library itself, and nothing before it is asked for.

- `_simulation`, `_faults`: the simulation; its random draws; its faults.
- `_arguments`: checks of arguments.
- `_watch`: checks of the guarantees after every step, from the events.
- `_builders`, `_matchers`, `_capture`: values made by hand; expected events; captured
  events.
- `_crash`: a process that writes a journal is killed, at every point.
- `laws`: whether a class of yours keeps the laws of its protocol.
- `strategies`: for hypothesis.
- `pytest_plugin`: fixtures.

Decision: simulation.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskorch.core.worlds._journal import SimulatedJournal
    from taskorch.core.worlds._run import Attempt, Outcome
    from taskorch.testing._builders import (
        make_agent,
        make_context,
        make_failure,
        make_owner,
        make_pool,
        make_task,
    )
    from taskorch.testing._capture import (
        Capture,
        capture_events,
    )
    from taskorch.testing._crash import (
        CrashFailure,
        CrashPoints,
        crash_at,
        for_every_crash_point,
    )
    from taskorch.testing._faults import (
        Faults,
        Hit,
        Schedule,
        minimise,
    )
    from taskorch.testing._matchers import (
        EventMatcher,
        TextMatcher,
        assert_events,
        event,
        matching,
    )
    from taskorch.testing._simulation import (
        Observer,
        Simulation,
    )
    from taskorch.testing._watch import Breach, Watch

_WHERE = {
    "taskorch.core.worlds._journal": ("SimulatedJournal",),
    "taskorch.core.worlds._run": ("Attempt", "Outcome"),
    "taskorch.testing._builders": (
        "make_agent",
        "make_context",
        "make_failure",
        "make_owner",
        "make_pool",
        "make_task",
    ),
    "taskorch.testing._capture": ("Capture", "capture_events"),
    "taskorch.testing._crash": (
        "CrashFailure",
        "CrashPoints",
        "crash_at",
        "for_every_crash_point",
    ),
    "taskorch.testing._faults": ("Faults", "Hit", "Schedule", "minimise"),
    "taskorch.testing._matchers": (
        "EventMatcher",
        "TextMatcher",
        "assert_events",
        "event",
        "matching",
    ),
    "taskorch.testing._simulation": ("Observer", "Simulation"),
    "taskorch.testing._watch": ("Breach", "Watch"),
}

__all__ = (
    "Attempt",
    "Breach",
    "Capture",
    "CrashFailure",
    "CrashPoints",
    "EventMatcher",
    "Faults",
    "Hit",
    "Observer",
    "Outcome",
    "Schedule",
    "SimulatedJournal",
    "Simulation",
    "TextMatcher",
    "Watch",
    "assert_events",
    "capture_events",
    "crash_at",
    "event",
    "for_every_crash_point",
    "make_agent",
    "make_context",
    "make_failure",
    "make_owner",
    "make_pool",
    "make_task",
    "matching",
    "minimise",
)


def __getattr__(name: str) -> object:
    for module, names in _WHERE.items():
        if name in names:
            value = getattr(import_module(module), name)
            globals()[name] = value
            return value
    if name in {"FailedRun", "explore", "find_failure"}:
        msg = (
            f"{__name__}.{name} is not in the package any more: its worlds are those of"
            " taskorch's own tests (tests/house/tools, in its repository). For a world"
            " of yours there are Simulation(seed, faults=…, keep=…) and minimise"
        )
        # An AttributeError would be told as "cannot import name", without these words.
        raise ImportError(msg, name=__name__)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
