"""What is wrong with a file, and where: as compilers and editors say it."""

from __future__ import annotations

import attrs


@attrs.frozen(order=True)
class Problem:
    """
    A fault in a file; `str()` of it is `file:line:column: text`.

    Attributes:
        path: The file, as seen from the folder of the workspace.
        line: From 1.
        column: From 1, in characters.
        text: What is wrong, and what to do.
        stops: Whether the task, or whatever the file says, cannot be used so.
    """

    path: str
    line: int
    column: int
    text: str
    stops: bool = True

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.text}"
