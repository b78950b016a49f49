"""Signals: events for listeners in this process."""

from typing import TYPE_CHECKING

from taskorch.kit import give_again as _give_again

if TYPE_CHECKING:
    from taskorch.core.signals import *
else:
    __getattr__, __dir__ = _give_again(__name__, "taskorch.core.signals")
