"""
The faults of a simulated world, and the random draws behind them.

A draw has a name (its subject, and its number among draws of that subject), and its
value is a hash of seed and name. So a fault that is left out changes no other draw, and
one can find the few that matter by leaving out the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import blake2b
from math import inf
from random import Random
from typing import Any, Final, TypeVar

import attrs

from taskorch.core.worlds._nature import Fate, Nature
from taskorch.core.worlds._run import Fence, SimulatedRun
from taskorch.errors import JournalUnavailableError
from taskorch.events import TASK_ID, Event, TaskEvent
from taskorch.kit.limits import NS
from taskorch.protocols import Entry, Journal

T = TypeVar("T")

_ALL: Final = 1 << 64


@attrs.frozen
class Hit:
    """A fault, or a command of the workload, that was drawn at random."""

    #: The name of the draw.
    name: str
    #: Seconds since the beginning.
    at: float
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.at:>12.6f} s  {self.kind:<18} {self.detail}"


@attrs.frozen
class Schedule:
    """The random faults and commands of a run; `str()` has a line for each."""

    hits: tuple[Hit, ...]

    @property
    def names(self) -> frozenset[str]:
        """The names with which `keep=` repeats these faults."""
        return frozenset(hit.name for hit in self.hits)

    def kinds(self) -> dict[str, int]:
        """Return how often each kind of fault happened."""
        counts: dict[str, int] = {}
        for hit in self.hits:
            counts[hit.kind] = counts.get(hit.kind, 0) + 1
        return counts

    def __len__(self) -> int:
        return len(self.hits)

    def __str__(self) -> str:
        return "\n".join(map(str, self.hits))


class Dice:
    """
    Draws, from a seed.

    Args:
        seed: The same seed gives the same draws.
        keep: Only events with one of these names happen; None: all that are drawn.
    """

    def __init__(self, seed: object, keep: Iterable[str] | None = None) -> None:
        self._key = blake2b(str(seed).encode(), digest_size=16).digest()
        self._keep = None if keep is None else frozenset(keep)
        self._counts: dict[str, int] = {}
        self.hits: list[Hit] = []
        #: Returns the time, in seconds since the beginning.
        self.clock: Callable[[], float] = float
        #: Called with every hit.
        self.tell: Callable[[Hit], object] = _nobody

    @property
    def schedule(self) -> Schedule:
        """The faults so far."""
        return Schedule(tuple(self.hits))

    def _draw(self, name: str) -> tuple[float, int]:
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        text = f"{name}#{number}".encode()
        value = blake2b(text, digest_size=8, key=self._key).digest()
        return int.from_bytes(value, "big") / _ALL, number

    def draw(self, name: str) -> float:
        """Return a number from 0 up to, not including, 1."""
        return self._draw(name)[0]

    def uniform(self, name: str, low: float, high: float) -> float:
        """Return a number between the two."""
        return low + (high - low) * self.draw(name)

    def integer(self, name: str, low: int, high: int) -> int:
        """Return a whole number between the two, which are included."""
        return low + int((high - low + 1) * self.draw(name))

    def choice(self, name: str, options: Sequence[T]) -> T:
        """Return a random choice from *options*."""
        return options[int(len(options) * self.draw(name))]

    def chance(self, kind: str, probability: float, detail: str) -> bool:
        """Return whether an event of *probability* happens, and record it if so."""
        return self.one_of(detail, ((kind, probability),)) is not None

    def one_of(
        self, detail: str, kinds: Sequence[tuple[str, float]], *, topic: str = ""
    ) -> str | None:
        """
        Draw which of *kinds* happens to *detail*, by their probabilities, if any.

        At most one does, and it is recorded.
        """
        name = f"{topic or kinds[0][0]} {detail}"
        value, number = self._draw(name)
        for kind, probability in kinds:
            value -= probability
            if value < 0:
                return kind if self._happens(kind, f"{name}#{number}", detail) else None
        return None

    def happens(self, kind: str, name: str, detail: str) -> bool:
        """Record a certain event, and return True, unless it is left out."""
        return self._happens(kind, name, detail)

    def remark(self, text: str) -> None:
        """Say more of the latest hit."""
        hit = self.hits[-1]
        self.hits[-1] = attrs.evolve(hit, detail=f"{hit.detail}: {text}")

    def _happens(self, kind: str, name: str, detail: str) -> bool:
        if self._keep is not None and name not in self._keep:
            return False
        hit = Hit(name, self.clock(), kind, detail)
        self.hits.append(hit)
        self.tell(hit)
        return True


def _nobody(_: Hit) -> None:
    """Ignore a hit."""


def minimise(
    fails: Callable[[Collection[str]], bool], names: Sequence[str], tries: int = 300
) -> list[str]:
    """
    Return the fewest *names* that still fail, as far as *tries* allow.

    No single one of them can be left out, unless the tries were used up. Source: A.
    Zeller and R. Hildebrandt, *Simplifying and Isolating Failure-Inducing Input*,
    IEEE Transactions on Software Engineering 28(2), 2002: the algorithm ddmin.

    Args:
        fails: Returns whether a run with only these fails.
        names: The names of the failing run.
        tries: The most calls of *fails*.
    """
    remaining = list(dict.fromkeys(names))
    pieces = 2
    while len(remaining) > 1 and tries > 0:
        size = -(-len(remaining) // pieces)
        chunks = [remaining[i : i + size] for i in range(0, len(remaining), size)]
        # Leave one part out: most parts make no difference.
        for chunk in chunks:
            gone = frozenset(chunk)
            rest = [name for name in remaining if name not in gone]
            tries -= 1
            if fails(rest):
                remaining = rest
                pieces = max(pieces - 1, 2)
                break
            if tries <= 0:
                break
        else:
            if size == 1:
                break
            pieces = min(len(remaining), pieces * 2)
    if len(remaining) == 1 and tries > 0 and fails([]):
        return []
    return remaining


#: A range of seconds, or of factors: from, to.
Range = tuple[float, float]


@attrs.frozen(kw_only=True, repr=False)
class Faults:
    """
    The possible faults: probabilities from 0 to 1, and their sizes.

    Messages concern remote workers only: those with a lease.

    Raises:
        ValueError: A value is no probability, range or time.
    """

    #: A message is lost; arrives twice; late; after later ones.
    lose: float = 0.0
    double: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0
    #: In an attempt, its worker dies; hangs; hangs until it has been given up, and
    #: then goes on as if nothing had happened; is slow.
    agent_death: float = 0.0
    agent_hang: float = 0.0
    zombie: float = 0.0
    agent_slow: float = 0.0
    #: A commit fails; whether the group was kept, nobody knows.
    commit_failure: float = 0.0
    #: In a crash, a part of what was being committed reaches the journal.
    torn_commit: float = 0.0
    #: In a step, the orchestrator dies.
    crash: float = 0.0
    #: While it recovers, it dies again.
    crash_in_recovery: float = 0.0
    #: While it is dead, the wall clock is set.
    clock_jump: float = 0.0
    #: Our own code does something unusual where it may.
    points: float = 0.0
    #: Effects on a running attempt (stop, pause, resume) come late, though in the order
    #: of their decisions; effects on others come earlier.
    late_effect: float = 0.0

    delay_seconds: Range = (0.01, 5.0)
    reorder_seconds: Range = (0.001, 0.05)
    hang_seconds: Range = (0.5, 10.0)
    zombie_leases: Range = (1.5, 4.0)
    slow_factor: Range = (2.0, 10.0)
    dead_seconds: Range = (0.1, 20.0)
    down_seconds: Range = (0.0, 10.0)
    jump_seconds: Range = (-3_600.0, 7_200.0)
    late_seconds: Range = (0.0, 2.0)
    #: Of the workers that die or hang, the share that never comes back.
    for_ever: float = 0.1
    #: The duration of a commit: no fault, but much can happen meanwhile.
    commit_seconds: float = 0.0

    def __attrs_post_init__(self) -> None:
        for kind in (*KINDS, "for_ever"):
            rate: object = getattr(self, kind)
            if not isinstance(rate, int | float) or not 0 <= rate <= 1:
                msg = f"{kind}: a probability is a number from 0 to 1, not {rate!r}"
                raise ValueError(msg)
        for name in _RANGES:
            _check_range(name, getattr(self, name))
        commit: object = self.commit_seconds
        if not isinstance(commit, int | float) or not 0 <= commit < inf:
            msg = f"commit_seconds: a number of 0 or more, not {commit!r}"
            raise ValueError(msg)

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{field.name}={getattr(self, field.name)!r}"
            for field in attrs.fields(Faults)
            if getattr(self, field.name) != field.default
        )
        return f"Faults({settings})"

    @classmethod
    def none(cls) -> Faults:
        """A perfect world."""
        return cls()

    @classmethod
    def all(cls) -> Faults:
        """All kinds of faults, with high rates."""
        rates: dict[str, Any] = dict.fromkeys(KINDS, 0.05)
        rates.update(dict.fromkeys(_IN_A_CRASH, 0.5), crash=0.02)
        return attrs.evolve(cls(commit_seconds=0.01), **rates)

    @classmethod
    def some(cls, random: Random) -> Faults:
        """
        Each kind of fault with probability one half, at a random rate.

        That finds more than all faults in every run, because one fault hides another.
        Source: A. Groce et al., *Swarm Testing*, ISSTA 2012.
        """
        rates: dict[str, Any] = {}
        for kind in KINDS:
            if kind == "late_effect":
                continue
            on, rate = random.random() < 0.5, random.random()  # noqa: PLR2004 - a half
            if not on:
                continue
            if kind in _IN_A_CRASH:
                rates[kind] = rate
            elif kind == "crash":
                rates[kind] = 10 ** (-2.2 + 1.2 * rate)
            else:
                rates[kind] = 10 ** (-2.3 + 1.7 * rate)
        # It has a source of its own, so that the other draws of a seed stay as they
        # were.
        own = Random(f"late effects {rates}")  # noqa: S311 - to be repeated
        rates["late_effect"] = own.choice([0.0, 0.0, 0.1, 0.5])
        commit = random.choice([0.0, 0.0, 0.01, 0.3])
        down = random.choice([0.01, 1.0, 10.0])
        return attrs.evolve(
            cls(commit_seconds=commit, down_seconds=(0.0, down)), **rates
        )


#: The names of all kinds of faults.
KINDS: Final = tuple(
    field.name
    for field in attrs.fields(Faults)
    if field.default == 0.0 and field.name != "commit_seconds"
)
_RANGES: Final = tuple(
    field.name for field in attrs.fields(Faults) if isinstance(field.default, tuple)
)
#: Faults that are drawn only if there is a crash anyway.
_IN_A_CRASH: Final = ("torn_commit", "crash_in_recovery", "clock_jump")
#: The lease of workers that have none.
_LEASE_NS: Final = 5 * NS
_STAGES: Final = ("made", "sent", "kept", "told")


class Chaos(Nature):
    """A world with faults, as the dice fall."""

    def __init__(self, faults: Faults, dice: Dice) -> None:
        self.faults = faults
        self.dice = dice
        #: Whether faults happen; if False, the world is perfect from now on.
        self.on = True
        self.mortal: bool = faults.crash > 0 or faults.crash_in_recovery > 0
        self.prodding: bool = faults.points > 0
        self.commit_ns: int = int(faults.commit_seconds * NS)
        self._messages = [
            (kind, getattr(faults, kind))
            for kind in ("lose", "double", "delay", "reorder")
        ]
        self._fates = [
            (kind, getattr(faults, kind))
            for kind in ("agent_death", "agent_hang", "zombie")
        ]
        self._travels = any(rate for _, rate in self._messages)
        self._befalls = any(rate for _, rate in self._fates)
        #: The stage at which the latest step dies, if it does.
        self._doomed: str | None = None
        #: The number of events that the next recovery survives, if it fails.
        self._recovers: int | None = None
        self._folded = 0

    def _ns(self, name: str, between: Range) -> int:
        return int(self.dice.uniform(name, *between) * NS)

    def travel(self, kind: str, worker: str, fence: Fence | None) -> Sequence[int]:
        """See `Nature.travel`."""
        if not self._travels or not self.on:
            return (self.latency_ns,)
        message = (
            f"{kind} {worker}" if fence is None else f"{kind} {worker} {_named(fence)}"
        )
        how = self.dice.one_of(message, self._messages, topic="message")
        if how is None:
            return (self.latency_ns,)
        if how == "lose":
            return ()
        late = self._ns(f"late {message}", self.faults.delay_seconds)
        if how == "double":
            return (self.latency_ns, self.latency_ns + late)
        if how == "reorder":
            late = self._ns(f"swap {message}", self.faults.reorder_seconds)
        self.dice.remark(f"{late / NS:.3f} s")
        return (self.latency_ns + late,)

    def late(self, task_id: str, attempt: int, effect: str) -> int:
        """See `Nature.late`."""
        rate = self.faults.late_effect
        name = f"{effect} {task_id}/{attempt}"
        if not rate or not self.on or not self.dice.chance("late_effect", rate, name):
            return 0
        ns = self._ns(f"late {name}", self.faults.late_seconds)
        self.dice.remark(f"{ns / NS:.3f} s")
        return ns

    def pace(self, run: SimulatedRun) -> float:
        """See `Nature.pace`."""
        faults = self.faults
        if not faults.agent_slow or not self.on:
            return 1.0
        attempt = f"{run.worker} {_named(run.fence)}"
        if not self.dice.chance("agent_slow", faults.agent_slow, attempt):
            return 1.0
        return self.dice.uniform(f"slow {attempt}", *faults.slow_factor)

    def fate(self, run: SimulatedRun, ns: int) -> Fate | None:
        """See `Nature.fate`."""
        if not self._befalls or not self.on:
            return None
        dice, faults = self.dice, self.faults
        attempt = f"{run.worker} {_named(run.fence)}"
        kind = dice.one_of(attempt, self._fates, topic="fate")
        if kind is None:
            return None
        after = int(dice.draw(f"fate after {attempt}") * ns)
        if kind == "zombie":
            leases = dice.uniform(f"zombie {attempt}", *faults.zombie_leases)
            return Fate("hangs", after, int(leases * (run.lease_ns or _LEASE_NS)))
        if dice.draw(f"for ever {attempt}") < faults.for_ever:
            back = None
        elif kind == "agent_death":
            back = self._ns(f"dead {attempt}", faults.dead_seconds)
        else:
            back = self._ns(f"hang {attempt}", faults.hang_seconds)
        how_long = "for ever" if back is None else f"for {back / NS:.3f} s"
        dice.remark(f"after {after / NS:.3f} s, {how_long}")
        return Fate("dies" if kind == "agent_death" else "hangs", after, back)

    def write(self, journal: Journal, epoch: int, group: Sequence[Entry]) -> None:
        """See `Nature.write`."""
        last_event = _of(group[-1][0])
        rate = self.faults.commit_failure
        if rate and self.on and self.dice.chance("commit_failure", rate, last_event):
            kept = self.dice.draw(f"kept {last_event}") < 0.5  # noqa: PLR2004 - a half
            if kept:
                journal.append(epoch, group)
            self.dice.remark("it was kept" if kept else "it was not kept")
            msg = "the disk is full, or says so"
            raise JournalUnavailableError(msg)
        journal.append(epoch, group)

    def dies(self, stage: str, event: Event) -> int | None:
        """See `Nature.dies`."""
        if not self.on:
            return None
        if stage == "recovering":
            return self._dies_again(event)
        if stage == "made":
            detail = _of(event)
            rate = self.faults.crash
            if not self._doomed and rate and self.dice.chance("crash", rate, detail):
                self._doomed = self.dice.choice(f"stage {detail}", _STAGES)
                self.dice.remark(f"its events were {self._doomed}")
        if self._doomed != stage:
            return None
        self._doomed = None
        detail = f"again after event {event.seq}"
        rate = self.faults.crash_in_recovery
        self._folded, self._recovers = 0, None
        if rate and self.dice.chance("crash_in_recovery", rate, detail):
            self._recovers = self.dice.integer(f"folded {detail}", 1, max(1, event.seq))
        return self._ns(f"down {detail}", self.faults.down_seconds)

    def _dies_again(self, event: Event) -> int | None:
        self._folded += 1
        if self._recovers is None or self._folded < self._recovers:
            return None
        self._recovers = None
        return self._ns(f"down again {event.seq}", self.faults.down_seconds)

    def torn(self, entries: int) -> int:
        """See `Nature.torn`."""
        rate = self.faults.torn_commit
        detail = f"group of {entries}"
        if not rate or not self.on or not self.dice.chance("torn_commit", rate, detail):
            return 0
        frames = self.dice.integer(f"frames {detail}", 0, entries + 1)
        self.dice.remark(f"{min(frames, entries)} of them reached the disk")
        return frames

    def jump(self) -> int:
        """See `Nature.jump`."""
        rate = self.faults.clock_jump
        if not rate or not self.on or not self.dice.chance("clock_jump", rate, "wall"):
            return 0
        ns = self._ns("jump", self.faults.jump_seconds)
        self.dice.remark(f"{ns / NS:+.0f} s")
        return ns

    def hit(self, name: str) -> bool:
        """See `Nature.hit`."""
        if not self.on:
            return False
        detail = f"{name} at {self.dice.clock():.9f}"
        return self.dice.chance("points", self.faults.points, detail)


def _check_range(name: str, value: object) -> None:
    """
    Refuse a value that is no range of seconds, or of factors.

    Raises:
        ValueError: It is none.
    """
    match value:
        case (int() | float() as low, int() | float() as high) if (
            -inf < low <= high < inf and (low >= 0 or name == "jump_seconds")
        ):
            return
    msg = f"{name}: two numbers, the lower first, not {value!r}"
    raise ValueError(msg)


def _named(fence: Fence) -> str:
    return f"{fence[1]}/{fence[2]} of life {fence[0]}"


def _of(event: Event) -> str:
    """Return a name for an event that does not depend on earlier ones."""
    cls = type(event)
    if issubclass(cls, TaskEvent):
        task_id, *rest = event[TASK_ID:]
        # This is usually the number of its attempt.
        return f"{cls.__name__} {task_id} {''.join(map(str, rest[:1]))}"
    return str(cls.__name__)
