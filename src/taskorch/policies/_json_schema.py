"""
What is wrong with a payload, by JSON Schema.

Decision: 0010.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from taskorch.errors import InvalidTaskError
from taskorch.model import Call, Program
from taskorch.model._checks import check_word
from taskorch.model._show import show
from taskorch.policies._json import child, described, plain, schema_checker
from taskorch.protocols import Context, Finding, Verdict

if TYPE_CHECKING:
    from taskorch.model import Task

_ACCEPTED = Verdict()


class JsonSchemaValidator:
    """
    The Validator that checks payloads by JSON Schema, one schema a type of task.

    Every fault is a finding with its path, `payload.items[2].name`, and all are found
    at once. The form of a task is checked before, whatever the validator; to ask others
    as well, use `ValidatorChain`.

    The payload of a type that has a schema is what JSON can say: text, finite numbers,
    true and false, None, lists (or tuples) of them, and mappings of names to them, not
    more than 50 deep. Types without a schema are accepted, or with `unknown="refuse"`
    they are not, unless the payload is a `Call` or a `Program`, which has checked
    itself.

    A schema follows the draft that its `$schema` names, and 2020-12 otherwise. `$ref`
    finds what stands in the same schema, and the drafts themselves; nothing is ever
    fetched, and a reference to anything else is refused when this is made. `format`
    is a remark, as the drafts have it, and checks nothing.

    It needs the library jsonschema: `pip install 'taskorch[schema]'`.

    Args:
        schemas: A schema for each type; they are copied.
        unknown: Whether a task of another type is accepted: `"accept"`, `"refuse"`.

    Raises:
        ImportError: jsonschema is not installed.
        InvalidTaskError: An argument is not well formed; of a bad schema the type and
            the path are named.
    """

    def __init__(
        self,
        schemas: Mapping[str, Mapping[str, object] | bool],
        *,
        unknown: Literal["accept", "refuse"] = "accept",
    ) -> None:
        unchecked: object = schemas
        if not isinstance(unchecked, Mapping):
            msg = "schemas: a mapping of types to schemas is needed, not "
            msg += show(unchecked)
            raise InvalidTaskError(msg)
        check_word("unknown", unknown, ("accept", "refuse"))
        self.unknown = unknown
        self._checkers = {
            kind: schema_checker(f"schemas[{kind!r}]", schema)
            for kind, schema in schemas.items()
        }

    def validate(self, task: Task, context: Context) -> Verdict:
        """What is wrong with the payload of *task*, if anything."""
        checker = self._checkers.get(task.type)
        if checker is None:
            return self._without_schema(task)
        findings: list[Finding] = []
        try:
            payload = plain("payload", task.payload, findings)
            if not findings:
                for error in checker.iter_errors(payload):
                    path = child("payload", *error.absolute_path)
                    findings += described(path, error)
        except RecursionError:
            message = "it is nested too deeply, or its schema refers to itself"
            findings = [Finding("payload", message)]
        except (ArithmeticError, ValueError) as error:
            # A number may be too large to be divided, or to be shown.
            message = f"it cannot be checked: {show(error)}"
            findings = [Finding("payload", message)]
        # Each once: some are found several times.
        return Verdict(tuple(dict.fromkeys(findings))) if findings else _ACCEPTED

    def _without_schema(self, task: Task) -> Verdict:
        if self.unknown == "accept":
            return _ALL_ACCEPTED
        if isinstance(task.payload, Call | Program):
            return _ACCEPTED
        types = ", ".join(map(repr, sorted(self._checkers))) or "none"
        message = f"{show(task.type)} has no schema; the types that have: {types}"
        return Verdict((Finding("type", message),))

    def __repr__(self) -> str:
        types = ", ".join(map(repr, self._checkers))
        return f"JsonSchemaValidator([{types}], unknown={self.unknown!r})"


_ALL_ACCEPTED = Verdict(reusable=JsonSchemaValidator)
