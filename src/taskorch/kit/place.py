"""Where inside an attempt the caller is: in which step."""

from contextvars import ContextVar
from typing import Final

#: The name of the step that the caller is in; "": in none.
PLACE: Final[ContextVar[str]] = ContextVar("taskorch_place", default="")
