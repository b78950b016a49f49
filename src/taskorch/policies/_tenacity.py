"""
tenacity's strategies, asked about a failure of ours.

This is the one module that knows tenacity, and imports it only when it is asked.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Coroutine
from random import Random
from typing import TYPE_CHECKING, Any

from taskorch._base._limits import MAX_SECONDS
from taskorch.model import Call
from taskorch.model._checks import is_number

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from taskorch.protocols import Failure


def state_of(failure: Failure) -> RetryCallState:
    """
    *failure* as the state that tenacity's strategies read.

    Its clock is at 0 when the first attempt began. `idle_for` is the latest delay
    only, since nobody keeps the sum; `args` and `kwargs` are those of a `Call`.
    """
    import tenacity  # noqa: PLC0415 - 20 ms, for those only who use it

    payload = failure.task.payload
    call = payload if isinstance(payload, Call) else None
    state = tenacity.RetryCallState(
        tenacity.Retrying(),
        fn=None if call is None else call.fn,
        args=() if call is None else call.args,
        kwargs={} if call is None else dict(call.kwargs),
    )
    state.attempt_number = failure.attempts
    state.outcome = tenacity.Future.construct(
        failure.attempts, failure.error, has_exception=True
    )
    state.start_time = 0.0
    state.outcome_timestamp = failure.elapsed
    state.idle_for = failure.last_delay
    state.upcoming_sleep = 0.0
    return state


def wait_seconds(
    strategy: Callable[[Any], float], state: RetryCallState, random: Random
) -> float:
    """
    How long *strategy* waits after *state*, in seconds.

    Raises:
        ValueError: It answered something else than a number of seconds, 0 or more.
    """
    answer: object = _ask(strategy, state, random)
    if not is_number(answer, 0, math.inf) or answer == math.inf:
        msg = (
            f"wait strategy {strategy_name(strategy)} answered {answer!r}: a wait is a "
            "finite number of seconds, 0 or more"
        )
        raise ValueError(msg)
    # tenacity's own "no limit" is longer than any time of ours.
    return float(min(answer, MAX_SECONDS))


def says(strategy: Callable[[Any], bool], state: RetryCallState) -> bool:
    """
    Whether *strategy*, about stopping or retrying, says yes to *state*.

    Raises:
        ValueError: It is to be awaited.
    """
    return bool(_call(strategy, state))


def is_explicit_retry(error: BaseException) -> bool:
    """Whether *error* is tenacity's own demand for another attempt."""
    import tenacity  # noqa: PLC0415 - 20 ms, for those only who use it

    return isinstance(error, tenacity.TryAgain)


def is_stop_never(strategy: object) -> bool:
    """Whether *strategy* is tenacity's `stop_never`."""
    import tenacity  # noqa: PLC0415 - 20 ms, for those only who use it

    return strategy is tenacity.stop_never


def strategy_name(strategy: object) -> str:
    """What to call *strategy* in a reason: the name of its class or function."""
    name = getattr(strategy, "__name__", None)
    return name if isinstance(name, str) else type(strategy).__name__


# --------------------------------------------------- what draws, over our generator
#
# tenacity draws from the global generator, which no seed of ours reaches. So the
# strategies that draw, and those that ask others, are expressed anew; all the rest
# depend on the state alone and answer for themselves.

_Expression = Callable[[Any, "RetryCallState", Random], float]


@functools.cache
def _expressions() -> dict[object, _Expression]:
    import tenacity  # noqa: PLC0415 - 20 ms, for those only who use it

    # By method, not by class: a subclass that only sets other numbers is known too,
    # and one with a rule of its own is not.
    return {
        tenacity.wait_chain.__call__: _chain,
        tenacity.wait_combine.__call__: _combine,
        tenacity.wait_exponential_jitter.__call__: _exponential_jitter,
        tenacity.wait_random.__call__: _random,
        tenacity.wait_random_exponential.__call__: _random_exponential,
    }


def _ask(strategy: Any, state: RetryCallState, random: Random) -> Any:
    express = _expressions().get(type(strategy).__call__)
    if express is None:
        return _call(strategy, state)
    return express(strategy, state, random)


def _call(strategy: Callable[[Any], Any], state: RetryCallState) -> Any:
    answer = strategy(state)
    if isinstance(answer, Coroutine):
        answer.close()
        msg = (
            f"strategy {strategy_name(strategy)} is to be awaited: that cannot be done "
            "here"
        )
        raise ValueError(msg)  # noqa: TRY004 - it is of the right type, and no use
    return answer


def _chain(strategy: Any, state: RetryCallState, random: Random) -> Any:
    # After the last strategy of the chain, that one goes on.
    place = min(max(state.attempt_number, 1), len(strategy.strategies))
    return _ask(strategy.strategies[place - 1], state, random)


def _combine(strategy: Any, state: RetryCallState, random: Random) -> Any:
    return sum(_ask(part, state, random) for part in strategy.wait_funcs)


def _random(strategy: Any, _state: RetryCallState, random: Random) -> float:
    low, high = strategy.wait_random_min, strategy.wait_random_max
    return random.uniform(low, high)


def _random_exponential(strategy: Any, state: RetryCallState, random: Random) -> float:
    from tenacity import wait_exponential  # noqa: PLC0415 - as above

    return random.uniform(strategy.min, wait_exponential.__call__(strategy, state))


def _exponential_jitter(strategy: Any, state: RetryCallState, random: Random) -> float:
    # Until 9.2 the factor is called `initial`, and there is no least wait.
    factor = getattr(strategy, "multiplier", getattr(strategy, "initial", 0))
    least = max(0, getattr(strategy, "min", 0))
    drawn = random.uniform(0, strategy.jitter)
    try:
        wait = factor * strategy.exp_base ** (state.attempt_number - 1) + drawn
    except OverflowError:
        wait = strategy.max
    return float(max(least, min(wait, strategy.max)))
