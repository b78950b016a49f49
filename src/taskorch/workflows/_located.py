"""Values that know where they stand in a file."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen
class Place:
    """A place in a file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@attrs.frozen
class Located:
    """
    A value, and the place where it begins.

    Attributes:
        value: A scalar; a list of `Located`; or of a mapping the pairs, a tuple of
            two `Located` each, in which a name may stand twice.
        place: Where it begins.
    """

    value: Any
    place: Place
