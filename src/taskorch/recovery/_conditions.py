"""Conditions over what is measured: `failure_rate > 0.2`, as text or as a function."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from typing import Any, Final, TypeAlias

import attrs

from taskorch._vocabulary import meant
from taskorch.errors import InvalidTaskError

#: What is measured, by name; None where there is no data.
Measured: TypeAlias = Mapping[str, Any]

_MOST: Final = 1_000
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
        cls, said: str | Callable[[Any], object], names: Collection[str], what: str
    ) -> Condition:
        """
        Make one of a text over *names*, or of a function of what is measured.

        Raises:
            InvalidTaskError: It is neither; the message says what is wrong.
        """
        if callable(said):
            return cls(getattr(said, "__name__", "a function"), None, said)
        hint = f"{what}='failure_rate > 0.2', or a function of the metrics"
        given: object = said
        if not isinstance(given, str) or len(given) > _MOST:
            msg = f"{what}: {given!r:.60} is no condition"
            raise InvalidTaskError(msg, hint=hint)
        try:
            tree = ast.parse(said.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            msg = f"{what}: {said!r} cannot be read: {error}"
            raise InvalidTaskError(msg, hint=hint) from None
        _check(tree, names, what, said)
        return cls(said, tree)

    def holds(self, measured: Measured) -> bool | None:
        """Whether it holds; None: there is no data."""
        try:
            if self._function is not None:
                answer = self._function(measured)
                return None if answer is None else bool(answer)
            assert self._tree is not None  # noqa: S101 - one of the two
            return bool(_value(self._tree, measured))
        except (NoData, TypeError, KeyError, ZeroDivisionError):
            return None

    def shown(self, measured: Measured) -> str:
        """What it says, with the values of what it names."""
        if self._tree is None:
            return self.text
        names = dict.fromkeys(
            node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)
        )
        said = [f"{name} is {_number(measured.get(name))}" for name in names]
        return f"{self.text}: {', '.join(said)}"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "not known"


def _check(node: ast.expr, names: Collection[str], what: str, said: str) -> None:
    """Refuse what is no comparison of names and numbers."""
    if isinstance(node, ast.BoolOp):
        for each in node.values:
            _check(each, names, what, said)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        _check(node.operand, names, what, said)
    elif isinstance(node, ast.Compare) and all(type(o) in _OPERATORS for o in node.ops):
        for each in (node.left, *node.comparators):
            _check(each, names, what, said)
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        _check(node.left, names, what, said)
        _check(node.right, names, what, said)
    elif isinstance(node, ast.Name):
        if node.id not in names:
            msg = f"{what}: nothing that is measured is called {node.id!r}"
            hint = meant(node.id, names, ", ".join(names))
            raise InvalidTaskError(msg, hint=hint)
    elif not (isinstance(node, ast.Constant) and type(node.value) in (int, float)):
        msg = f"{what}: {said!r} compares names and numbers, and nothing else"
        raise InvalidTaskError(msg, hint=f"{what}='failure_rate > 0.2'")


def _value(node: ast.expr, measured: Measured) -> Any:
    value: Any = None
    if isinstance(node, ast.BoolOp):
        every = all if isinstance(node.op, ast.And) else any
        value = every(_value(each, measured) for each in node.values)
    elif isinstance(node, ast.UnaryOp):
        value = _value(node.operand, measured)
        value = not value if isinstance(node.op, ast.Not) else -value
    elif isinstance(node, ast.BinOp):
        left, right = _value(node.left, measured), _value(node.right, measured)
        value = _OPERATORS[type(node.op)](left, right)
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
