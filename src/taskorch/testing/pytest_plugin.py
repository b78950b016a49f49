"""
The pytest plugin: fixtures for simulations, their seeds, and captured events.

Every run of pytest loads it where taskorch is installed. So it imports nothing of
taskorch before a fixture is used, and does nothing to tests that use none.
"""

from __future__ import annotations

import argparse
import shlex
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from taskorch.testing._capture import Capture
    from taskorch.testing._faults import Faults
    from taskorch.testing._simulation import Simulation

_OPTION = "--taskorch-seed"
_INI = "taskorch_seeds"
_SEED = "taskorch_seed"
_CRASH = "taskorch_crash_point"
#: The number of lines of a trace in the report of a failure.
_LAST = 20
_MARKS = {
    "taskorch_seeds(n, *, seeds=None)": (
        "run a simulated test under n seeds of its own, or under these seeds"
    ),
    "taskorch_crash_points(n)": (
        "run a simulated test n times: its simulation crashes at the first event that "
        "the test brings about, at the second, and so on, and recovers; under one "
        "seed, unless taskorch_seeds says more"
    ),
    "taskorch_faults(**rates)": (
        "what goes wrong in the simulation of a test: the arguments of Faults"
    ),
}


class _TestRun:
    """The simulations of one test."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.made: list[Simulation] = []
        self.passed = True


_RUN = pytest.StashKey[_TestRun]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the setting."""
    parser.getgroup("taskorch").addoption(
        _OPTION,
        action="append",
        type=_seeds_of,
        metavar="N",
        help="run simulated tests under this seed (or these: 1,2,3) and no others",
    )
    parser.addini(_INI, "how many seeds a simulated test is run under", default="10")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known."""
    for mark, meaning in _MARKS.items():
        config.addinivalue_line("markers", f"{mark}: {meaning}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that has a seed under several, and one that crashes at each point."""
    if _SEED not in metafunc.fixturenames:
        return
    points = metafunc.definition.get_closest_marker("taskorch_crash_points")
    if points is not None and _CRASH in metafunc.fixturenames:
        n = _count(metafunc.definition, points)
        numbers = range(1, n + 1)
        metafunc.parametrize(_CRASH, numbers, ids=[f"crash{i}" for i in numbers])
    if not _has_parameter(metafunc, _SEED):
        seeds = _seeds(metafunc.config, metafunc.definition, one=points is not None)
        metafunc.parametrize(_SEED, seeds, ids=[f"seed{seed}" for seed in seeds])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failed test how to repeat it, and its last events."""
    report = yield
    run = item.stash.get(_RUN, None)
    if run is not None and call.excinfo is not None:
        run.passed = False
        if report.failed:
            report.sections.append(("taskorch", _story(item.nodeid, run)))
    return report


# -- fixtures ----------------------------------------------------------------------


@pytest.fixture
def taskorch_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run of the test, which is run once for each of several."""
    # Only `request.getfixturevalue` comes here; other tests get it as a parameter.
    return _seeds(request.config, request.node, one=True)[0]


@pytest.fixture
def taskorch_crash_point() -> int | None:
    """The event at which simulations crash, under the mark taskorch_crash_points."""
    return None


@pytest.fixture
def make_simulation(
    request: pytest.FixtureRequest,
    taskorch_seed: int,
    taskorch_crash_point: int | None,
) -> Iterator[Callable[..., Simulation]]:
    """
    Make a `Simulation` with the options given, and the seed of the test.

    The invariants of all that were made are checked when the test has passed.
    """
    from taskorch.testing._simulation import (  # noqa: PLC0415 - only where it is used
        Simulation,
    )

    run = request.node.stash[_RUN] = _TestRun(taskorch_seed)

    def make(**options: Any) -> Simulation:
        options.setdefault("seed", taskorch_seed)
        simulation = Simulation(**options)
        run.made.append(simulation)
        if taskorch_crash_point is not None:
            simulation.crash_at(len(simulation.events) + taskorch_crash_point)
        return simulation

    yield make
    if run.passed:
        for simulation in run.made:
            # A simulation that is down at the end has nothing to check.
            if simulation.is_up:
                simulation.check()


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    """
    The faults of `simulation`: those of the mark taskorch_faults, or none.

    A module or a folder whose tests share faults has a fixture of this name.
    """
    from taskorch.testing._faults import Faults  # noqa: PLC0415 - only where it is used

    mark = request.node.get_closest_marker("taskorch_faults")
    if mark is None:
        return Faults()
    try:
        return Faults(*mark.args, **mark.kwargs)
    except (TypeError, ValueError) as error:
        why = str(error).replace("Faults.__init__()", "Faults()")
        pytest.fail(f"@pytest.mark.{mark.name}: {why}", pytrace=False)


@pytest.fixture
def simulation(
    make_simulation: Callable[..., Simulation], faults: Faults
) -> Simulation:
    """A `Simulation` with the seed of the test and its `faults`."""
    return make_simulation(faults=faults)


@pytest.fixture
def crash_at(simulation: Simulation) -> Callable[..., None]:
    """Make `simulation` crash at its n-th event, and recover: its own `crash_at`."""
    return simulation.crash_at


@pytest.fixture
def capture_events() -> Callable[..., Capture]:
    """Collect the events of a real orchestrator: `taskorch.testing.capture_events`."""
    from taskorch.testing import _capture  # noqa: PLC0415 - only where it is used

    return _capture.capture_events


# -- seeds -------------------------------------------------------------------------


def _seeds_of(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        msg = f"{text!r} is neither a whole number nor a list such as 1,2,3"
        raise argparse.ArgumentTypeError(msg) from None


def _seeds(config: pytest.Config, node: pytest.Item, *, one: bool) -> list[int]:
    """The seeds of a test: the command line's, its mark's, or so many of its own."""
    lists: list[list[int]] | None = config.getoption(_OPTION)
    if lists:
        return list(dict.fromkeys(seed for seeds in lists for seed in seeds))
    mark = node.get_closest_marker("taskorch_seeds")
    if mark is not None:
        chosen = _marked(node, mark)
    else:
        chosen = 1 if one else _setting(config.getini(_INI))
    if isinstance(chosen, list):
        return chosen
    # The seeds come from the name of the test, so that each test has its own.
    numbers: dict[int, None] = {}
    for i in count():
        if len(numbers) == chosen:
            break
        numbers[zlib.crc32(f"{node.nodeid}#{i}".encode())] = None
    return list(numbers)


def _marked(node: pytest.Item, mark: pytest.Mark) -> int | list[int]:
    """Return the number, or the list, in the mark taskorch_seeds."""
    if not mark.args and set(mark.kwargs) == {"seeds"}:
        seeds = mark.kwargs["seeds"]
        if isinstance(seeds, Iterable) and not isinstance(seeds, str):
            chosen = list(seeds)
            if chosen and all(type(seed) is int for seed in chosen):
                return list(dict.fromkeys(chosen))
        _refuse(node, mark, "seeds=[…], whole numbers")
    return _count(node, mark, " or seeds=[…], whole numbers")


def _count(node: pytest.Item, mark: pytest.Mark, or_else: str = "") -> int:
    """Return the number in a mark."""
    arguments = (*mark.args, *(mark.kwargs[key] for key in mark.kwargs if key == "n"))
    if len(arguments) == 1 and len(mark.args) + len(mark.kwargs) == 1:
        (n,) = arguments
        if type(n) is int and n >= 1:
            return n
    return _refuse(node, mark, f"a number of 1 or more{or_else}")


def _refuse(node: pytest.Item, mark: pytest.Mark, expected: str) -> NoReturn:
    arguments = [*map(repr, mark.args), *(f"{k}={v!r}" for k, v in mark.kwargs.items())]
    shown = f"@pytest.mark.{mark.name}({', '.join(arguments)})"
    pytest.fail(f"{node.nodeid}: {shown}: it takes {expected}", pytrace=False)


def _setting(text: str) -> int:
    if not text.isdecimal() or not int(text):
        pytest.fail(f"{_INI} is 1 or more, not {text!r}", pytrace=False)
    return int(text)


def _has_parameter(metafunc: pytest.Metafunc, name: str) -> bool:
    """Return whether the test's own marks give *name*."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs["argnames"]
        if isinstance(names, str):
            names = [each.strip() for each in names.split(",")]
        if name in names:
            return True
    return False


# -- reports -----------------------------------------------------------------------


def _story(nodeid: str, run: _TestRun) -> str:
    lines = [
        f"seed {run.seed}; to repeat it:",
        f"    pytest {shlex.quote(nodeid)} {_OPTION} {run.seed}",
    ]
    for i, simulation in enumerate(run.made, start=1):
        which = "" if len(run.made) == 1 else f" in simulation {i}"
        trace = simulation.trace().splitlines()
        hits = str(simulation.schedule).splitlines()
        if hits:
            lines += [f"what chance brought about{which}:", *_indented(hits)]
        lines += [f"what happened last{which}:", *_indented(trace[-_LAST:])]
        try:
            if simulation.is_up:
                simulation.check()
        except Exception as error:  # noqa: BLE001 - one more thing to tell
            lines.append(f"something does not add up{which}: {error}")
    return "\n".join(lines)


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
