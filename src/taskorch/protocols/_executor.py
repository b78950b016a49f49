"""Where attempts run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    # For annotations only: a protocol does no input or output.
    from concurrent.futures import Future


@runtime_checkable
class Executor(Protocol):
    """
    Protocol: runs calls; any `concurrent.futures.Executor` is one.

    Laws:
        1. The future of a call is resolved with what the call returned, or with the
           very error that it raised (in another process: with an equal one).
        2. A call is made once.
        3. A call that fails harms no other, before or after.
        4. `submit` does not wait for the call to end.
        5. `shutdown(wait=True)` returns when every call that was accepted has ended
           or was cancelled; every future is resolved by then.
        6. After `shutdown`, `submit` raises a RuntimeError, and makes no call.
        7. `shutdown(cancel_futures=True)` cancels what has not begun; what has begun
           comes to its end.
    """

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Call *fn* somewhere, some time."""
        ...

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and free what was held."""
        ...
