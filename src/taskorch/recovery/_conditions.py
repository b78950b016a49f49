"""Conditions over what is measured: `failure_rate > 0.2`, as text or as a function."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import pairwise, product
from typing import Any, Final, TypeAlias

import attrs

from taskorch._base.vocabulary import meant
from taskorch.errors import InvalidTaskError

#: What is measured, by name; None where there is no data.
Measured: TypeAlias = Mapping[str, Any]

_MOST: Final = 1_000
#: Names in a condition for which its end is compared with it.
_NAMES: Final = 3
_OPERATORS: Final[Mapping[type, Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class NoData(Exception):  # noqa: N818 - no fault
    """What a condition asks for has not been measured."""


class _Asked(Mapping[str, Any]):
    """What is measured, for a function: it notes whether that met what is not known."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured
        self.is_short = False

    def __getitem__(self, name: str) -> Any:
        if name not in self._measured:
            raise KeyError(_unknown(name, self._measured))
        value = self._measured[name]
        self.is_short |= value is None
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._measured)

    def __len__(self) -> int:
        return len(self._measured)


def _unknown(name: object, names: Collection[str]) -> str:
    hint = meant(str(name), names, ", ".join(names))
    return f"nothing that is measured is called {name!r}: {hint}"


@attrs.frozen
class Condition:
    """
    A condition; it holds, does not hold, or there is no data.

    Attributes:
        text: What it says.
    """

    text: str
    _tree: ast.expr | None = None
    _function: Callable[[Any], object] | None = None

    @classmethod
    def of(
        cls,
        condition: str | Callable[[Any], object],
        names: Collection[str],
        field: str,
    ) -> Condition:
        """
        Make one of a text over *names*, or of a function of what is measured.

        Raises:
            InvalidTaskError: It is neither; the message says what is wrong.
        """
        if callable(condition):
            return cls(getattr(condition, "__name__", "a function"), None, condition)
        hint = f"{field}='failure_rate > 0.2', or a function of the metrics"
        candidate: object = condition
        if not isinstance(candidate, str) or len(candidate) > _MOST:
            msg = f"{field}: {candidate!r:.60} is no condition"
            raise InvalidTaskError(msg, hint=hint)
        try:
            tree = ast.parse(condition.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            msg = f"{field}: {condition!r} cannot be read: {error}"
            raise InvalidTaskError(msg, hint=hint) from None
        _check(tree, names, field, condition)
        return cls(condition, tree)

    @property
    def is_function(self) -> bool:
        """Whether it is a function of the user's."""
        return self._function is not None

    @property
    def names(self) -> tuple[str, ...]:
        """What it names, each once; a function does not say."""
        if self._tree is None:
            return ()
        return tuple(
            dict.fromkeys(
                node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)
            )
        )

    @property
    def numbers(self) -> tuple[float, ...]:
        """The numbers in it."""
        nodes = () if self._tree is None else ast.walk(self._tree)
        return tuple(node.value for node in nodes if isinstance(node, ast.Constant))  # type: ignore[misc]

    def holds(self, measured: Measured) -> bool | None:
        """Whether it holds; None: there is no data."""
        if self._function is not None:
            return self._asked(measured)
        assert self._tree is not None  # noqa: S101 - one of the two
        try:
            return bool(_value(self._tree, measured))
        except (NoData, ZeroDivisionError):
            return None

    def _asked(self, measured: Measured) -> bool | None:
        """What a function of the user's says."""
        assert self._function is not None  # noqa: S101 - it is one
        asked = _Asked(measured)
        try:
            answer = self._function(asked)
            return None if answer is None else bool(answer)
        except ZeroDivisionError:
            return None
        except TypeError:
            if asked.is_short:
                # None was compared, or added: there is no data.
                return None
            raise

    def shown(self, measured: Measured) -> str:
        """What it says, with the values of what it names."""
        if self._tree is None:
            return self.text
        phrases = [f"{name} is {_number(measured.get(name))}" for name in self.names]
        return f"{self.text}: {', '.join(phrases)}"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "not known"


def check_apart(begin: Condition, end: Condition) -> None:
    """
    Refuse an alert whose end may hold while its beginning does: it would flap.

    Raises:
        InvalidTaskError: There are values with which both hold.
    """
    names = begin.names
    if not set(end.names) <= set(names) or not 0 < len(names) <= _NAMES:
        # A function does not say what it looks at; and other values are independent.
        return
    points = sorted({0.0, *map(abs, (*begin.numbers, *end.numbers))})
    between = [(one + other) / 2 for one, other in pairwise(points)]
    beyond = [points[-1] * 2 + 1, points[-1] * 4 + 3]
    for values in product(*[[*points, *between, *beyond]] * len(names)):
        measured = dict(zip(names, values, strict=True))
        if begin.holds(measured) and end.holds(measured):
            at = ", ".join(f"{name} is {value:.4g}" for name, value in measured.items())
            msg = f"until: {end.text!r} holds while {begin.text!r} does, as where {at}"
            hint = "let it be over below the value at which it is raised"
            raise InvalidTaskError(msg, hint=hint)


def _check(node: ast.expr, names: Collection[str], field: str, text: str) -> None:
    """Refuse what is no comparison of names and numbers."""
    if isinstance(node, ast.BoolOp):
        for each in node.values:
            _check(each, names, field, text)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check(node.operand, names, field, text)
    elif isinstance(node, ast.Compare) and all(type(o) in _OPERATORS for o in node.ops):
        for each in (node.left, *node.comparators):
            _check_amount(each, names, field, text)
    else:
        # Whether it is at least an amount decides what is said of it.
        _check_amount(node, names, field, text)
        msg = f"{field}: {text!r} is an amount, and compares it with nothing"
        raise InvalidTaskError(msg, hint=f"{field}='{text} > 10'")


def _check_amount(
    node: ast.expr, names: Collection[str], field: str, text: str
) -> None:
    """Refuse what is no amount of names and finite numbers."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        _check_amount(node.operand, names, field, text)
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        _check_amount(node.left, names, field, text)
        _check_amount(node.right, names, field, text)
    elif isinstance(node, ast.Name):
        if node.id not in names:
            msg = f"{field}: nothing that is measured is called {node.id!r}"
            hint = meant(node.id, names, ", ".join(names))
            raise InvalidTaskError(msg, hint=hint)
    elif not (isinstance(node, ast.Constant) and type(node.value) in (int, float)):
        msg = f"{field}: {text!r} compares names and numbers, and nothing else"
        raise InvalidTaskError(msg, hint=f"{field}='failure_rate > 0.2'")
    elif not _is_finite(node.value):
        msg = f"{field}: {text!r} has a number that is none, or without end"
        raise InvalidTaskError(msg, hint=f"{field}='failure_rate > 0.2'")


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _value(node: ast.expr, measured: Measured) -> Any:
    value: Any = None
    if isinstance(node, ast.BoolOp):
        every = all if isinstance(node.op, ast.And) else any
        value = every(_value(each, measured) for each in node.values)
    elif isinstance(node, ast.UnaryOp):
        value = _value(node.operand, measured)
        value = not value if isinstance(node.op, ast.Not) else -value
    elif isinstance(node, ast.BinOp):
        first, second = _value(node.left, measured), _value(node.right, measured)
        value = _OPERATORS[type(node.op)](first, second)
    elif isinstance(node, ast.Compare):
        values = [_value(each, measured) for each in (node.left, *node.comparators)]
        value = all(
            _OPERATORS[type(op)](one, other)
            for op, (one, other) in zip(node.ops, pairwise(values), strict=True)
        )
    elif isinstance(node, ast.Name):
        value = measured.get(node.id)
        if value is None:
            raise NoData(node.id)
    elif isinstance(node, ast.Constant):
        value = node.value
    return value
