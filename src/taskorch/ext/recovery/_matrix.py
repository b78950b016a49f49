"""
Matrix of the responses to each class of failures, on three levels.

1. On the worker, inside the attempt: functions that `orch.recover` decorates.
2. By the orchestrator, with the next attempt: a `Grow`, an `Avoid` or a `Reset`.
3. A person is asked.

Decision: failures-and-recovery.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.ext.recovery._classes import CLASSES, class_of
from taskorch.kit.checks import check_count, check_word
from taskorch.kit.forms import (
    AnyNames,
    DocumentOf,
    Each,
    Either,
    Maybe,
    Number,
    OneOf,
    ReadMapping,
    Text,
    may_be,
    one_of,
)
from taskorch.kit.visible import is_text, show
from taskorch.kit.vocabulary import OTHER_RESOURCES, suggesting
from taskorch.model import Resources

#: The times at which a person is asked: never, at once, after the last retry, at twice
#: the timeout, or when other tasks fail in the same class.
Human: TypeAlias = Literal["never", "always", "persistent", "twice", "widespread"]


_FACTOR: Final = Number(least=1)


@suggesting
@attrs.frozen
class Times:
    """
    Multiplication of an amount, up to the limit `most`.

    Attributes:
        factor: The factor.
        most: The limit; None: all that exists.
    """

    factor: float = attrs.field(metadata=may_be(_FACTOR, name="times"))
    most: float | None = attrs.field(
        default=None, kw_only=True, metadata=may_be(Maybe(Number()))
    )

    def __attrs_post_init__(self) -> None:
        numbers: tuple[tuple[str, object], ...] = (
            ("factor", self.factor),
            ("most", self.most),
        )
        for name, value in numbers:
            if value is None and name == "most":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                msg = f"{name} is a number, not {value!r}"
                raise InvalidTaskError(msg)
            # `isfinite` raises an error for very large integers.
            if not abs(value) <= sys.float_info.max:
                msg = f"{name} is a finite number, not {value!r}"
                raise InvalidTaskError(msg)
            if value < (1 if name == "factor" else 0):
                msg = f"{name} is {value!r}: so there would be less than before"
                raise InvalidTaskError(msg)

    def of(self, amount: float) -> float:
        """Return *amount* multiplied, up to the limit, and never less than before."""
        more = amount * self.factor
        return max(amount, more if self.most is None else min(more, self.most))


@attrs.frozen(init=False)
class Grow:
    """
    Retry that asks for more of the task's resources, and has more time.

    Args:
        timeout: The factor of its timeout.
        factors: The factor of each resource by name: a number, or a `Times`.

    Raises:
        InvalidTaskError: A factor is not a number of at least 1.
    """

    timeout: Times | None
    factors: Mapping[str, Times]

    def __init__(
        self, *, timeout: float | Times | None = None, **factors: float | Times
    ) -> None:
        times: dict[str, Times] = {}
        for word, factor in factors.items():
            name, unit = OTHER_RESOURCES.get(word, (word, 1))
            growth = _times(factor)
            most = None if growth.most is None else growth.most * unit
            times[name] = Times(growth.factor, most=most)
        object.__setattr__(
            self, "timeout", None if timeout is None else _times(timeout)
        )
        object.__setattr__(self, "factors", times)


def _check_backoff(_avoid: Any, _field: Any, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 1 <= value < math.inf:
        msg = f"backoff is a number from 1, not {value!r}"
        raise InvalidTaskError(msg, hint="2 makes each delay twice the one before")


@attrs.frozen
class Avoid:
    """
    Retry on another worker, as long as there is one.

    Attributes:
        backoff: The factor by which delays grow.
    """

    backoff: float = attrs.field(
        default=1.0, validator=_check_backoff, metadata=may_be(_FACTOR)
    )


@attrs.frozen
class Reset:
    """
    Retry after the functions of `orch.recover(…, level=2)` are called.

    If there is no such function, the next attempt goes to another worker.
    """


#: The actions of the orchestrator.
Action: TypeAlias = Grow | Avoid | Reset


@attrs.frozen
class ActionEntry:
    """
    Change of the next attempt, in a document.

    Attributes:
        grow: More resources or `timeout`, by name.
        avoid: Another worker, if there is one.
    """

    grow: Mapping[str, Times] | None = attrs.field(
        default=None,
        metadata=may_be(
            AnyNames(Either(_FACTOR, DocumentOf(Times, make=Times)), plain=True)
        ),
    )
    avoid: Avoid | None = attrs.field(
        default=None, metadata=may_be(DocumentOf(Avoid, make=Avoid))
    )


def _action_of(
    grow: Mapping[str, float | Times] | None = None, avoid: Avoid | None = None
) -> Action:
    if avoid is not None:
        return avoid
    factors = dict(grow or {})
    if "timeout_seconds" in factors:
        factors["timeout"] = factors.pop("timeout_seconds")
    return Grow(**factors)


_ACTION: Final = Either(
    OneOf(
        {"avoid": Avoid(), "reset": Reset()},
        more="{avoid: {backoff: 2}} or {grow: {memory_mb: 2, timeout: 1.5}}",
    ),
    DocumentOf(ActionEntry, make=_action_of, is_one=True),
)


def _times(factor: float | Times) -> Times:
    return factor if isinstance(factor, Times) else Times(factor)


def _check_human(_row: Any, _field: Any, value: object) -> None:
    check_word("human", value, get_args(Human))


def _check_orchestrator(_row: Any, _field: Any, value: object) -> None:
    if value is not None and not isinstance(value, Grow | Avoid | Reset):
        msg = f"orchestrator: {value!r} is no Grow, Avoid or Reset"
        raise InvalidTaskError(msg)


def _check_most(_row: Any, _field: Any, value: object) -> None:
    if value is not None:
        check_count("most_retries", value, least=0)


def _actions_of(words: object) -> tuple[str, ...]:
    """Parse the actions that a person may choose from, as a tuple of texts."""
    if isinstance(words, str) or not isinstance(words, Iterable):
        msg = f"actions: a list of texts is needed, not {words!r}"
        raise InvalidTaskError(msg)
    actions = tuple(words)
    for each in actions:
        if not is_text(each) or not each.strip():
            msg = f"actions: {show(each)} is no text"
            raise InvalidTaskError(msg)
    return actions


@suggesting
@attrs.define
class Row:
    """
    Row of the matrix; a change takes effect at once.

    Attributes:
        agent: Advice for the worker, in words; None: none.
        orchestrator: A change of the next attempt; None: no attempt.
        human: When a person is asked: `never`, or `always` instead of another attempt.
            `persistent`: once the retries are used up. `twice`: the same, or once its
            timeout has doubled. `widespread`: as `persistent`, if three tasks or more
            failed so within five minutes.
        actions: Advice for people.
        most_retries: The most retries; None: as the handler decides.
    """

    agent: str | None = attrs.field(default=None, metadata=may_be(Maybe(Text())))
    orchestrator: Action | None = attrs.field(
        default=None, validator=_check_orchestrator, metadata=may_be(Maybe(_ACTION))
    )
    human: Human = attrs.field(
        default="never",
        validator=_check_human,
        metadata=may_be(one_of(*get_args(Human))),
    )
    actions: tuple[str, ...] = attrs.field(
        default=(),
        converter=_actions_of,
        metadata=may_be(Each(Text(), needs="a list of texts")),
    )
    most_retries: int | None = attrs.field(
        default=None,
        validator=_check_most,
        metadata=may_be(Maybe(Number(is_whole=True))),
    )


class Matrix(dict[str, Row]):
    """Rows by the names of the classes or their synonyms."""

    def __getitem__(self, word: str) -> Row:
        return super().__getitem__(class_of(word))

    def __setitem__(self, word: str, row: Row) -> None:
        candidate: object = row
        if not isinstance(candidate, Row):
            msg = f"matrix[{word!r}] is a Row, not {row!r}"
            raise InvalidTaskError(msg)
        super().__setitem__(class_of(word), row)


def default_matrix() -> Matrix:
    """Return the recovery decision matrix that applies by default."""
    matrix = Matrix()
    for name, row in _DEFAULT.items():
        matrix[name] = attrs.evolve(row)
    return matrix


def matrix_with(rows: Mapping[str, Row]) -> Matrix:
    """Return the default matrix with these *rows* in the place of its own."""
    matrix = default_matrix()
    for name, row in rows.items():
        matrix[name] = row
    return matrix


#: The form of the rows that replace default rows, by classes.
MATRIX: Final = AnyNames(DocumentOf(Row), check=class_of)


def rows_of(matrix: ReadMapping) -> dict[str, Row]:
    """Return the rows of a document, with default values for the rest."""
    usual = default_matrix()
    return {
        name: attrs.evolve(usual[name], **row.values)
        for name, row in matrix.values.items()
    }


_MORE: Final = Grow(memory_mb=2, cpu=Times(2, most=4), timeout=1.5)
_DEFAULT: Final[Mapping[str, Row]] = {
    "import_error": Row(
        "reinstall dependencies",
        Reset(),
        "never",
        ("Install what is missing where the task runs",),
    ),
    "permission_error": Row(
        "fix permissions",
        Avoid(),
        "never",
        ("See who owns the file, and who runs the task",),
    ),
    "memory_error": Row(
        "reduce the dataset",
        _MORE,
        "persistent",
        ("Give it more memory_mb", "Give it less to do at once"),
    ),
    "timeout_error": Row(
        "extend the timeout",
        Grow(timeout=1.5, cpu=Times(2, most=4)),
        "twice",
        ("See where it hangs", "Give it more time"),
    ),
    "calculation_error": Row(
        None,
        None,
        "always",
        ("Review the precision of the calculation", "Compare with a tolerance"),
    ),
    "logic_error": Row(
        None,
        None,
        "always",
        ("Read the traceback, and mend the code or the input",),
    ),
    "system_error": Row(
        None, Avoid(), "persistent", ("Look at the machine of its worker",)
    ),
    "network_error": Row(
        "retry with backoff",
        Avoid(backoff=2),
        "widespread",
        ("See whether the service can be reached",),
    ),
    "unknown": Row(
        None, Avoid(), "persistent", ("Read the log of the task",), most_retries=1
    ),
}
assert set(_DEFAULT) == set(CLASSES)  # noqa: S101 - each class has its row


def grown(
    action: Grow,
    resources: Resources,
    timeout: float | None,
    bounds: Iterable[tuple[str, Mapping[str, float]]],
    longest: float | None = None,
) -> tuple[Resources | None, float | None, list[str]]:
    """
    Return the next request of a task that has asked for *resources* and *timeout*.

    Args:
        action: The factors.
        resources: The resources that the task asked for.
        timeout: The timeout that the task was given, in seconds.
        bounds: By worker that can do it, the most that there is of each resource.
        longest: The most that the timeout may become.

    Returns:
        The resources and the timeout that change, and the words for each change.
    """
    asked = dict(resources.items())
    wanted: dict[str, float] = {}
    words: list[str] = []
    workers = list(bounds)
    for name, amount in asked.items():
        times = action.factors.get(name)
        if times is None:
            continue
        more = times.of(amount)
        most = max((has.get(name, math.inf) for _, has in workers), default=math.inf)
        if more > most:
            largest = next(worker for worker, has in workers if has.get(name) == most)
            words.append(
                f"{name} {amount:g} → {most:g}, all that the largest worker, "
                f"{largest}, has"
                if most > amount
                else f"{name} stays {amount:g}: no worker has more"
            )
            more = max(amount, most)
        elif more > amount:
            words.append(f"{name} {amount:g} → {more:g}")
        if more > amount:
            wanted[name] = more
    longer = None
    if action.timeout is not None and timeout is not None:
        longer = action.timeout.of(timeout)
        if longest is not None:
            longer = min(longer, longest)
        if longer > timeout:
            words.append(f"timeout {timeout:g} → {longer:g} s")
        else:
            longer = None
    changed = Resources(**{**asked, **wanted}) if wanted else None
    return changed, longer, words
