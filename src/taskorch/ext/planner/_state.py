"""The state of a domain, as a value that never changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from taskorch.errors import PlanningError


class State(Mapping[Any, Any]):
    """
    A state of a domain: variables and their values. `set` gives the state after a step.

    Each state holds only the variables that were set in it, above an earlier state;
    after some of these layers it holds a whole copy.

    Args:
        values: The variables.
    """

    __slots__ = ("_above", "_depth", "_values", "derived")
    #: After so many layers the variables are copied into one.
    _MOST = 16

    def __init__(self, values: Mapping[Any, Any] | None = None) -> None:
        self._values: dict[Any, Any] = dict(values or {})
        self._above: State | None = None
        self._depth = 0
        #: Data that somebody derived from this state, and that lives as long as it.
        self.derived: Any = None

    def __getitem__(self, name: Any) -> Any:
        layer: State | None = self
        while layer is not None:
            if name in layer._values:
                return layer._values[name]
            layer = layer._above
        raise KeyError(name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())

    def _whole(self) -> dict[Any, Any]:
        layers = []
        layer: State | None = self
        while layer is not None:
            layers.append(layer._values)
            layer = layer._above
        whole: dict[Any, Any] = {}
        for values in reversed(layers):
            whole.update(values)
        return whole

    def set(self, name: Any, value: Any) -> State:
        """Return a state in which *name* is *value*, and all else is as here."""
        return self.changed({name: value})

    def changed(self, values: Mapping[Any, Any]) -> State:
        """Return a state with these *values*, and all else as here."""
        state = State.__new__(type(self))
        state.derived = None
        if self._depth >= self._MOST:
            state._values, state._above, state._depth = self._whole(), None, 0
            state._values.update(values)
        else:
            state._values, state._above = dict(values), self
            state._depth = self._depth + 1
        return state

    def __setitem__(self, name: Any, value: Any) -> NoReturn:
        msg = f"a state never changes: return state.set({name!r}, …) instead"
        raise TypeError(msg)

    def __repr__(self) -> str:
        return f"State({self._whole()!r})"


_MISSING = object()
#: Stands among the names that a step reads for a list of all variables.
EVERY = object()


class Watched(State):
    """
    A state that notes what a step reads and writes.

    Values that can be changed in place are compared with their first form: see `check`.
    """

    __slots__ = ("_seen", "reads", "writes")

    def __init__(self, base: State) -> None:
        super().__init__()
        self._above = base
        #: Nothing is copied, because the base serves only while the step is asked.
        self._depth = 0
        self.reads: dict[Any, None] = {}
        self.writes: dict[Any, Any] = {}
        self._seen: dict[Any, tuple[Any, str]] = {}

    def __getitem__(self, name: Any) -> Any:
        if name in self.writes:
            return self.writes[name]
        self.reads[name] = None
        value = super().__getitem__(name)
        if isinstance(value, list | dict | set | bytearray) and name not in self._seen:
            self._seen[name] = value, repr(value)
        return value

    def __contains__(self, name: object) -> bool:
        return self.get(name, _MISSING) is not _MISSING

    def __iter__(self) -> Iterator[Any]:
        self.reads[EVERY] = None
        self.reads.update(dict.fromkeys(super().__iter__()))
        return iter({**self._whole(), **self.writes})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def changed(self, values: Mapping[Any, Any]) -> State:
        """Change itself and return itself: a step needs one watched state only."""
        state = Watched.__new__(Watched)
        state.derived = None
        state._values, state._above, state._depth = {}, self._above, 0
        state.reads, state._seen = self.reads, self._seen
        state.writes = {**self.writes, **values}
        return state

    def check(self, who: str) -> None:
        """
        Refuse a state that was changed in place.

        Raises:
            PlanningError: A value in it was changed in place.
        """
        for name, (value, before) in self._seen.items():
            if repr(value) != before:
                msg = f"{who} has changed the state that it was given, in {name!r}"
                hint = "let it return state.set(name, new value), and change nothing"
                raise PlanningError(msg, hint=hint)
