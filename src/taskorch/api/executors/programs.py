"""Programs as taskorch runs them, for authors of an executor or a worker."""

from typing import TYPE_CHECKING

from taskorch.kit import give_again as _give_again

if TYPE_CHECKING:
    from taskorch.core.executors.programs import *
else:
    __getattr__, __dir__ = _give_again(__name__, "taskorch.core.executors.programs")
