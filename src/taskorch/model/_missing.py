"""
Stand-ins for objects that an earlier incarnation knew and this one does not.

Decision: durable-commits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskorch.errors import InvalidTaskError


class Missing:
    """
    Stand-in for a missing function or value; calling it raises an error.

    Test a user's value by `issubclass(type(value), Missing)`: `isinstance` asks the
    value for its class, and that may raise.

    Args:
        name: The import path of the function, or of the class of the value,
            `module:qualname`.
        why: The reason; empty if it cannot be imported.
        kept: The document of a value in the journal.
        look: A function that looks for it again and returns it, or raises LookupError;
            None if it is not looked for again.
    """

    def __init__(
        self,
        name: str,
        why: str = "",
        kept: Any = None,
        look: Callable[[], Any] | None = None,
    ) -> None:
        self.name: str = name
        self.why: str = why or f"{_shown(name)} cannot be imported any more"
        self.kept: Any = kept
        self._look = look
        self.__qualname__ = name.rpartition(":")[2]

    def look(self) -> Any:
        """Return the object that it stands for, if it exists by now, or itself."""
        if self._look is None:
            return self
        try:
            return self._look()
        except LookupError:
            return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        back = self.look()
        if back is not self:
            return back(*args, **kwargs)
        msg = f"{self} was kept in the journal and cannot be called: {self.why}"
        raise InvalidTaskError(msg, hint="bring it back, or submit the task anew")

    def __str__(self) -> str:
        return _shown(self.name)

    def __repr__(self) -> str:
        return f"<missing {self.name}>"


def _shown(name: str) -> str:
    """Return an import path for people: a journal names the script in its own way."""
    module, _, member = name.rpartition(":")
    main, at, script = module.partition("@")
    if main != "__main__" or not at:
        return name
    return f"{member} of {script or 'a session without a file'}"
