"""
Functions that were not here as the journal was opened, and may come later.

Decision: 0125.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Final, Protocol

from taskorch.errors import NotRunningError
from taskorch.kernel import TaskRow
from taskorch.model import TERMINAL
from taskorch.runtime._driver import Driver
from taskorch.runtime._interrupts import defers_interrupts
from taskorch.runtime._restored import bring_back, lost_by, release_if_back
from taskorch.runtime._timer import TimerThread

#: Seconds between two looks.
_LOOK: Final = 0.25


class LostHost(Driver, Protocol):
    """What looking for functions asks of its runtime."""

    @property
    def timer(self) -> TimerThread:
        """What calls it again and again."""
        ...


class LostFunctions:
    """
    Looks again and again for functions that were not here as the journal was opened.

    They mostly stand below the line that opens it: in a script, in a file that
    `taskorch serve` loads, under a decorator of the orchestrator.
    """

    def __init__(self, host: LostHost) -> None:
        self._rt = host
        #: The tasks that need them; changed under the lock.
        self.rows: dict[TaskRow, None] = {}
        #: Modules that cannot be imported: they are not tried again.
        self._broken: set[str] = set()
        #: Guards the next.
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = None

    def __bool__(self) -> bool:
        return bool(self.rows)

    def add(self, row: TaskRow) -> None:
        """Not under the driver's lock: look for what *row* needs."""
        with self._rt.lock:
            self.rows[row] = None
        self.watch()

    @defers_interrupts
    def watch(self) -> None:
        """Not under the driver's lock: look for them, until all are here."""
        with self._lock:
            if self.rows and self._end is None:
                self._end = self._rt.timer.repeat(_LOOK, self.look)

    def look(self) -> None:
        """Look for them; tasks that are held for one that is here now go on."""
        rt = self._rt
        with rt.lock:
            names = {each.name for row in self.rows for each in lost_by(row.cargo)}
        for name in names:
            self._load(name.rpartition(":")[0])
        with suppress(NotRunningError):
            rt.step(self._look)
        with self._lock:
            if not self.rows and self._end is not None:
                self._end()
                self._end = None

    def _look(self, now: int) -> None:
        gone: set[str] = set()
        for row in list(self.rows):
            work = row.cargo
            if row.state in TERMINAL:
                del self.rows[row]
                continue
            if not gone.isdisjoint(each.name for each in lost_by(work)):
                continue
            bring_back(work)
            missing = lost_by(work)
            gone.update(each.name for each in missing)
            if not missing:
                del self.rows[row]
                release_if_back(self._rt.kernel, row, now)

    def _load(self, module: str) -> None:
        """Import a module that has come meanwhile."""
        if not module or module in sys.modules or module in self._broken:
            return
        if "@" in module:
            # That of a script, which is not imported by its name.
            return
        try:
            if find_spec(module) is not None:
                import_module(module)
        except Exception:  # noqa: BLE001 - a module that is imported may raise anything
            self._broken.add(module)
