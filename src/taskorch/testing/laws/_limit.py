"""Whether a limit keeps its laws."""

from __future__ import annotations

import math
from collections.abc import Callable

from taskorch.kit.extension import CountingLimit, Kind, Limit, Short
from taskorch.testing.laws._case import brief, cases, maker, twice


def check_limit(
    limit: Limit | Callable[[], Limit],
    *kinds: Kind,
    seed: int = 0,
    examples: int = 50,
) -> None:
    """
    Check the laws of Limit.

    Args:
        limit: The limit, or what makes one.
        kinds: Some that it limits; others are asked about as well.
        seed: The seed of the questions.
        examples: How many cases.

    Raises:
        LawViolation: A law is broken.
    """
    make = maker(limit, Limit)
    for case in cases(Limit, "check_limit", seed, examples, 3):
        dice, one = case.random, make()
        resources = {"cpu": float(dice.randint(1, 4))} if dice.randint(0, 1) else {}
        other = Kind(dice.choice("uvw"), dice.choice([None, "ada"]), (), resources)
        kind = dice.choice([*kinds, other])
        need = case.ask(one.need, float | int, kind=kind)  # type: ignore[arg-type]
        case.expect(
            math.isfinite(need) and need >= 0, 1, f"It needs {brief(need)} of {kind}."
        )
        again = one.need(kind)
        case.expect(again == need, 1, twice(need, again))
        for much in (need or 1.0, dice.uniform(0, 10)):
            held = dice.choice([0.0, dice.uniform(0, 20)])
            with case.noted(need=much, held=held):
                first, second = one.short(much, held), one.short(much, held)
            case.expect(type(first) is type(second), 3, twice(first, second))
            if first is None:
                if isinstance(one, CountingLimit):
                    case.ask(one.started, type(None), need=much)
                continue
            if not isinstance(first, Short):
                case.malformed(Short, first)
            case.form(first, detail=str, seconds=float | int, have=float | int)
            case.expect(first.detail.strip(), 2, "It gave no words.")
            is_time = math.isfinite(first.seconds) and first.seconds > 0
            case.expect(is_time, 2, f"It is asked again in {first.seconds} s.")
