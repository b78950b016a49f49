"""
The event loop that coroutines run on: the caller's, or a private one.

Decision: 0027.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any

from taskorch.runtime._asyncio import asyncio, running_loop
from taskorch.runtime._interrupts import SLICE, defers_interrupts, join


class LoopHost:
    """
    The loop of one orchestrator.

    Inside `async with` it is the entering loop; otherwise a private one on a thread
    of its own, made when the first coroutine needs it. *crashed* is told what has ended
    that one, which nothing but `close` should.
    """

    def __init__(self, name: str, crashed: Callable[[BaseException], object]) -> None:
        self._name = name
        self._crashed = crashed
        self._lock = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None
        #: The one on which a plain call has opened the journal.
        self._opened_on: asyncio.AbstractEventLoop | None = None
        #: The private one, and its thread.
        self._private: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        #: The thread that runs it.
        self._ident = 0
        #: Since when it has not said that it runs, although it was asked to.
        self._asked = inf
        #: Wakes the loop of the main thread next.
        self._pulse: asyncio.TimerHandle | None = None

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use *loop*, which the caller's program runs."""
        self.loop = loop
        self._ident = threading.get_ident()
        if self._pulse is None and (
            threading.current_thread() is threading.main_thread()
        ):
            self._wake(loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """
        Wake *loop* again and again, as `wait_for_lock` does a thread.

        A signal that comes in the very moment in which the loop begins to wait does not
        end that wait, and its handler would be called whenever something else does.
        """
        self._pulse = loop.call_later(SLICE, self._wake, loop)

    def unanswered(self) -> tuple[float, int, str]:
        """
        Ask the loop, if there is one, for a sign of life.

        Returns:
            Since when it owes one, its thread, and the task that it runs.
        """
        loop, since = self.loop, self._asked
        if loop is None:
            return inf, 0, ""
        if since != inf:
            task = asyncio.current_task(loop)
            return since, self._ident, "" if task is None else task.get_name()
        self._asked = monotonic()
        # It may have been closed.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._answer)
            return inf, 0, ""
        self._answer()
        return inf, 0, ""

    def _answer(self) -> None:
        self._asked = inf

    @defers_interrupts
    def get(self) -> asyncio.AbstractEventLoop:
        """The loop; makes the private one if there is none."""
        loop = self.loop
        if loop is not None:
            return loop
        with self._lock:
            if self.loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=self._run,
                    args=(loop,),
                    name=f"{self._name}-loop",
                    daemon=True,
                )
                try:
                    thread.start()
                except RuntimeError:
                    loop.close()
                    raise
                self._thread = thread
                self.loop = self._private = loop
            return self.loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ident = threading.get_ident()
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001 - such as a sys.exit() in a callback
            self._crashed(error)
        finally:
            loop.run_until_complete(_end_all(loop))
            loop.close()

    def is_mine(self) -> bool:
        """Whether the caller runs on the loop: it must not be blocked there."""
        loop = self.loop
        return loop is not None and asyncio._get_running_loop() is loop

    def opened_here(self) -> None:
        """The journal was opened, by a plain call of the caller's."""
        self._opened_on = running_loop()

    def may_block(self) -> bool:
        """
        Whether the caller may wait for a commit.

        On somebody else's loop it may if a plain call has opened the journal there, as
        in a notebook: that has blocked the loop for longer than a commit does.
        """
        loop = running_loop()
        return loop is None or (loop is self._opened_on and loop is not self.loop)

    def call(self, fn: Callable[..., Any], *args: Any) -> bool:
        """Call *fn* on the loop, from any thread; False if the loop has been closed."""
        loop = self.get()
        if asyncio._get_running_loop() is loop:
            loop.call_soon(fn, *args)
            return True
        try:
            loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:
            return False
        return True

    def close(self, timeout: float) -> None:
        """End the private loop; a loop of the caller's program goes on."""
        if self._pulse is not None and self.loop is not None:
            # It may have been closed.
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._end_pulse)
        thread, loop = self._thread, self._private
        if thread is None or loop is None:
            return
        try:
            loop.call_soon_threadsafe(loop.stop)
        except RuntimeError:
            return
        if thread is not threading.current_thread():
            join(thread, timeout)

    def _end_pulse(self) -> None:
        if self._pulse is not None:
            self._pulse.cancel()


async def _end_all(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left on *loop*, which is about to be closed, and tidy up."""
    left = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
