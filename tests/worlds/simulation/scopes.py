"""The small worlds that are searched to the end; as a program, it searches larger ones."""

import sys
import time

from tests.worlds.simulation.exhaustive import search
from tests.worlds.simulation.small_world import Scope

#: By name: a world, and how many states and transitions there are at least.
SMALL: dict[str, tuple[Scope, int, int]] = {
    "a worker comes and goes": (
        Scope(deaths=1, cancels=1),
        900,
        4000,
    ),
    "reports come twice": (
        Scope(after=((), (1,)), deaths=1, doubles=1),
        900,
        4000,
    ),
    "room for both": (
        Scope(room=2, deaths=1, max_age_ns=2),
        350,
        1500,
    ),
    "time runs out": (
        Scope(timeout_ns=2, cancels=1, max_age_ns=4),
        140,
        600,
    ),
    "we crash": (
        Scope(crashes=1, delay_ns=2),
        700,
        2800,
    ),
    "we crash, one waits for the other": (
        Scope(after=((), (1,)), crashes=1, cancels=1),
        800,
        4000,
    ),
    "we crash, and time runs out": (
        Scope(after=((),), crashes=1, cancels=1, timeout_ns=2),
        550,
        3000,
    ),
    "three in a row and beside": (
        Scope(after=((), (), (1, 2)), deaths=1),
        500,
        2200,
    ),
}
#: Minutes each.
LARGE: dict[str, Scope] = {
    "two tasks, one of everything": Scope(crashes=1, deaths=1, cancels=1, doubles=1),
    "one waits for the other": Scope(
        after=((), (1,)), crashes=1, deaths=1, cancels=1, timeout_ns=2
    ),
    "room for both": Scope(
        room=2, crashes=1, deaths=1, cancels=1, delay_ns=2, max_age_ns=4
    ),
    "three": Scope(after=((), (), (1,)), crashes=1, deaths=1, cancels=1),
    "two crashes": Scope(crashes=2, deaths=1),
    "two deaths": Scope(deaths=2, cancels=1, timeout_ns=2),
}


def main(argv: list[str]) -> None:
    """Search the worlds that are named, or the small ones, or with `--large` those."""
    known = {name: scope for name, (scope, _, _) in SMALL.items()}
    chosen = LARGE if "--large" in argv else known
    names = [name for name in argv[1:] if not name.startswith("--")] or list(chosen)
    for name in names:
        began = time.process_time()
        reach = search({**known, **chosen}[name], most=10_000_000)
        took = time.process_time() - began
        print(
            f"{name}: {reach.states} states, {reach.transitions} transitions, "
            f"depth {reach.depth}, {took:.1f} s"
        )


if __name__ == "__main__":
    main(sys.argv)
