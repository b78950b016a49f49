"""
What stands for something that an earlier incarnation knew and this one does not.

Decision: 0125.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskorch.errors import InvalidTaskError


class Missing:
    """
    Stands for a function or a value that is gone: calling it says so.

    Args:
        name: The import path of the function, or of the class of the value,
            `module:qualname`.
        why: What has become of it; empty if it cannot be imported.
        kept: Of a value, what the journal has of it.
        look: Looks for it once more, and returns it; raises LookupError while it is
            not here. None: it is not looked for again.
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
        """What it stands for, if that is here by now; else itself."""
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
    """An import path as people read it: a journal says which script is meant."""
    module, _, member = name.rpartition(":")
    main, at, script = module.partition("@")
    if main != "__main__" or not at:
        return name
    return f"{member} of {script or 'a session without a file'}"
