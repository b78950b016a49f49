"""Frames of a connection to a worker process, for authors of an executor."""

from typing import TYPE_CHECKING

from taskorch.kit import give_again as _give_again

if TYPE_CHECKING:
    from taskorch.core.executors.wire import *
else:
    __getattr__, __dir__ = _give_again(__name__, "taskorch.core.executors.wire")
