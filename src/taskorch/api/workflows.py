"""Workflows: tasks with dependencies, built and checked as one, and run as one."""

from typing import TYPE_CHECKING

from taskorch.kit import give_again as _give_again

if TYPE_CHECKING:
    from taskorch.core.workflows import *
else:
    __getattr__, __dir__ = _give_again(__name__, "taskorch.core.workflows")
