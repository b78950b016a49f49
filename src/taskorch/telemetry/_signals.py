"""`orch.signals`, as those see it who may not import it."""

from typing import Any, Protocol


class AnySignals(Protocol):
    """A signal for each class of events, by its name."""

    def __getattr__(self, name: str) -> Any: ...
