"""The step of an attempt that the present code is in."""

from contextvars import ContextVar
from typing import Final

#: The name of the present step, or "".
PLACE: Final[ContextVar[str]] = ContextVar("taskorch_place", default="")
