"""What holds in a domain, as a value that never changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from taskorch.errors import PlanningError


class State(Mapping[Any, Any]):
    """
    What holds before a step: variables and their values. `set` gives the state after.

    Only the step that changes is copied: each state has the variables that were set in
    it, and after some of them a whole copy.

    Args:
        values: The variables.
    """

    __slots__ = ("_above", "_depth", "_values", "derived")
    #: Layers before the variables are copied into one.
    _MOST = 16

    def __init__(self, values: Mapping[Any, Any] | None = None) -> None:
        self._values: dict[Any, Any] = dict(values or {})
        self._above: State | None = None
        self._depth = 0
        #: What somebody has made of it, to be kept with it.
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
        """The state in which *name* is *value*, and all else as here."""
        return self.changed({name: value})

    def changed(self, values: Mapping[Any, Any]) -> State:
        """The state in which these *values* hold, and all else as here."""
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
#: Among the names that a step reads: it has looked which there are.
EVERY = object()


class Watched(State):
    """
    A state that notes what a step reads and writes.

    What can be changed in place is compared afterwards with what it was: see `check`.
    """

    __slots__ = ("_seen", "reads", "writes")

    def __init__(self, base: State) -> None:
        super().__init__()
        self._above = base
        #: Nothing is copied: the base is below it only while the step is asked.
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
        """Itself with these *values*: one watched state is enough for a step."""
        state = Watched.__new__(Watched)
        state.derived = None
        state._values, state._above, state._depth = {}, self._above, 0
        state.reads, state._seen = self.reads, self._seen
        state.writes = {**self.writes, **values}
        return state

    def check(self, who: str) -> None:
        """
        Look whether the state is as it was given.

        Raises:
            PlanningError: A value in it was changed in place.
        """
        for name, (value, before) in self._seen.items():
            if repr(value) != before:
                msg = f"{who} has changed the state that it was given, in {name!r}"
                hint = "let it return state.set(name, new value), and change nothing"
                raise PlanningError(msg, hint=hint)
