"""How long a journal keeps what has ended."""

from __future__ import annotations

from taskorch._base._frozen import frozen


@frozen
class Retention:
    """
    How long to keep what has ended; what neither says is kept for ever.

    Attributes:
        age: Seconds after its end for which a task is kept.
        most: How many tasks that have ended are kept, the latest.
    """

    age: float | None = None
    most: int | None = None
