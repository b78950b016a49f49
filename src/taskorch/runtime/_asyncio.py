"""asyncio, loaded when the first coroutine needs it: it is a third of our start-up."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
else:

    class _Asyncio:
        """Stands for the module until, and each name after, it is asked for."""

        def __getattr__(self, name: str) -> Any:
            import asyncio as module  # noqa: PLC0415 - that is the point

            found = getattr(module, name)
            setattr(self, name, found)
            return found

    asyncio = _Asyncio()

__all__ = ("asyncio", "is_cancellation", "is_coroutine_task")


def is_cancellation(error: BaseException) -> bool:
    """Whether *error* is what asyncio raises in a task that is cancelled."""
    return "asyncio" in sys.modules and isinstance(error, asyncio.CancelledError)


def is_coroutine_task(thing: object) -> bool:
    """Whether *thing* is a task of asyncio's."""
    return "asyncio" in sys.modules and isinstance(thing, asyncio.Task)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that the caller runs on, if it runs on one."""
    return asyncio._get_running_loop() if "asyncio" in sys.modules else None
