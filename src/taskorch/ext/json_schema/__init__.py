"""
Faults of a payload by JSON Schema, in our own words.

Decision: libraries.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import check_word
from taskorch.kit.visible import show
from taskorch.model import Call, Program
from taskorch.protocols import Context, Finding, Verdict

if TYPE_CHECKING:
    from referencing import Resource

    from taskorch.model import Task


#: The deepest payload: jsonschema takes several stack frames per level, of a thousand.
_MAX_DEPTH: Final = 50
#: The most characters of a value, or of a foreign message, that a message shows.
_MAX_SHOWN: Final = 80
_MAX_MESSAGE: Final = 300


# ---------------------------------------------------------------------- values


def child(path: str, *steps: object) -> str:
    """Return the path of the value that *steps*, names and indexes, lead to."""
    for step in steps:
        if isinstance(step, str) and step.isidentifier():
            path = f"{path}.{step}"
        else:
            path = f"{path}[{show(step, _MAX_SHOWN)}]"
    return path


def plain(path: str, value: object, findings: list[Finding], depth: int = 0) -> Any:
    """
    Return *value*, at *path*, as a JSON copy of dicts, lists and atoms.

    Values that JSON does not have are added to *findings*.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            findings.append(Finding(path, f"a finite number is needed, not {value}"))
        return value
    if depth >= _MAX_DEPTH:
        message = f"it is nested more than {_MAX_DEPTH} levels deep"
        findings.append(Finding(path, message))
        return None
    if isinstance(value, Mapping):
        return _plain_mapping(
            path, cast("Mapping[object, object]", value), findings, depth
        )
    if isinstance(value, list | tuple):
        items = cast("list[object]", value)
        return [
            plain(child(path, place), item, findings, depth + 1)
            for place, item in enumerate(items)
        ]
    # The message names only the type: the value may be secret, or very long.
    message = f"what JSON can say is needed, not {type(value).__name__}"
    findings.append(Finding(path, message))
    return None


def _plain_mapping(
    path: str, value: Mapping[object, object], findings: list[Finding], depth: int
) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(name, str):
            members[name] = plain(child(path, name), item, findings, depth + 1)
        else:
            message = f"a name is text, not {show(name, _MAX_SHOWN)}"
            findings.append(Finding(path, message))
    return members


# --------------------------------------------------------------------- schemas


def schema_checker(where: str, schema: object) -> Any:
    """
    Return a validator of jsonschema for *schema*, which fetches nothing.

    *where* is the name of the schema in messages.

    Raises:
        ImportError: jsonschema is not installed.
        InvalidTaskError: The schema is invalid.
    """
    try:
        import jsonschema  # noqa: PLC0415 - 60 ms, for those only who use it
    except ImportError as error:
        msg = "JsonSchemaValidator needs jsonschema: pip install 'taskorch[schema]'"
        raise ImportError(msg, name="jsonschema") from error
    from jsonschema_specifications import REGISTRY  # noqa: PLC0415 - as above

    findings: list[Finding] = []
    # The schema is copied, since the caller may change it.
    schema = plain(where, schema, findings)
    _refuse(findings)
    cls = _draft_of(where, schema)
    try:
        cls.check_schema(schema)
    except jsonschema.SchemaError as error:
        _refuse(described(child(where, *error.absolute_path), error))
    _check_references(where, schema, cls)
    # Without a registry, jsonschema would fetch references from the network.
    return cls(schema, registry=REGISTRY)


def _draft_of(where: str, schema: object) -> Any:
    """Return jsonschema's class for the draft that *schema* follows."""
    from jsonschema import validators  # noqa: PLC0415 - as above

    if not isinstance(schema, dict) or "$schema" not in schema:
        return validators.Draft202012Validator
    draft = schema["$schema"]
    cls: object = None
    if isinstance(draft, str):
        cls = validators.validator_for(schema, default=cast("Any", None))
    if cls is None:
        message = f"{show(draft)} is no draft that is known"
        _refuse([Finding(child(where, "$schema"), message)])
    return cls


def _refuse(findings: list[Finding]) -> None:
    """Raise an InvalidTaskError with all *findings*, if there are any."""
    if findings:
        raise InvalidTaskError("; ".join(f"{f.path}: {f.message}" for f in findings))


def _check_references(where: str, schema: object, cls: Any) -> None:
    """Refuse a reference to a missing part, before a payload meets it."""
    from jsonschema_specifications import REGISTRY  # noqa: PLC0415 - as above
    from referencing.exceptions import Unresolvable  # noqa: PLC0415 - as above
    from referencing.jsonschema import specification_with  # noqa: PLC0415 - as above

    specification = specification_with(cls.META_SCHEMA["$schema"])
    root = specification.create_resource(schema)
    for reference, resolver in _references(root, REGISTRY.resolver_with_root(root)):
        try:
            resolver.lookup(reference)
        except (Unresolvable, ValueError) as error:
            msg = (
                f"{where}: $ref {show(reference)} leads to nothing in this schema, and "
                "nothing is fetched; put what it needs under $defs"
            )
            raise InvalidTaskError(msg) from error


def _references(resource: Resource[Any], resolver: Any) -> Iterator[tuple[str, Any]]:
    """Yield every reference in *resource*, with a resolver that starts there."""
    contents = resource.contents
    if isinstance(contents, Mapping):
        for name in ("$ref", "$dynamicRef", "$recursiveRef"):
            if isinstance(contents.get(name), str):
                yield contents[name], resolver
    for inner in resource.subresources():
        yield from _references(inner, resolver.in_subresource(inner))


# ---------------------------------------------------------------------- faults


def described(path: str, error: Any) -> list[Finding]:
    """Describe a fault at *path*, found by jsonschema, in our words."""
    keyword, rule, value = error.validator, error.validator_value, error.instance
    if keyword is None:
        return [Finding(path, "nothing is allowed here")]
    if keyword == "required" and isinstance(rule, list):
        # jsonschema reports one error for each missing name without that name: all are
        # named here.
        missing = [name for name in rule if name not in value]
        return [Finding(child(path, n), "it is required, and missing") for n in missing]
    if keyword == "additionalProperties":
        return _unknown_names(path, error)
    if keyword in ("anyOf", "oneOf"):
        return [Finding(path, _no_form(path, error))]
    say = _WORDS.get(keyword)
    if say is not None:
        return [Finding(path, say(rule, value))]
    message = error.message
    if len(message) > _MAX_MESSAGE:
        message = f"{message[:_MAX_MESSAGE]}…"
    return [Finding(path, message)]


def _unknown_names(path: str, error: Any) -> list[Finding]:
    properties = error.schema.get("properties", {})
    patterns = error.schema.get("patternProperties", {})
    names = ", ".join(properties) or "none"
    return [
        Finding(child(path, name), f"it is not known here; the names known: {names}")
        for name in error.instance
        if name not in properties and not any(re.search(p, name) for p in patterns)
    ]


def _no_form(path: str, error: Any) -> str:
    from jsonschema.exceptions import relevance  # noqa: PLC0415 - it is loaded by now

    forms = len(error.validator_value)
    if not error.context:
        return f"it must fit one only of {forms} forms, and it fits more"
    # The least relevant error is the one that went deepest before it failed.
    nearest = min(error.context, key=relevance)
    faults = described(child(path, *nearest.relative_path), nearest)
    details = "; ".join(f"{fault.path}: {fault.message}" for fault in faults)
    return f"it fits none of {forms} forms; of the nearest, {details}"


_TYPES: Final = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "text",
}


def _show(value: object) -> str:
    return show(value, _MAX_SHOWN)


def _type(rule: object, value: object) -> str:
    kinds = cast("list[str]", rule) if isinstance(rule, list) else [str(rule)]
    wanted = " or ".join(_TYPES.get(kind, kind) for kind in kinds)
    return f"{wanted} is needed, not {_show(value)}"


def _one_of(rule: object, value: object) -> str:
    options = ", ".join(map(_show, cast("list[object]", rule)))
    return f"one of {options} is needed, not {_show(value)}"


def _needs(words: str) -> Callable[[object, object], str]:
    def say(rule: object, value: object) -> str:
        return f"{words} {_show(rule)} is needed, not {_show(value)}"

    return say


def _sized(bound: str, things: str) -> Callable[[object, object], str]:
    def say(rule: object, value: object) -> str:
        size = len(cast("list[object]", value))
        return f"at {bound} {_show(rule)} {things}, not {size:,}"

    return say


_WORDS: Final[Mapping[str, Callable[[Any, Any], str]]] = {
    "type": _type,
    "enum": _one_of,
    "const": lambda rule, value: f"{_show(rule)} is needed, not {_show(value)}",
    "minimum": _needs("at least"),
    "maximum": _needs("at most"),
    "exclusiveMinimum": _needs("more than"),
    "exclusiveMaximum": _needs("less than"),
    "multipleOf": _needs("a multiple of"),
    "pattern": _needs("what matches"),
    "minLength": _sized("least", "characters"),
    "maxLength": _sized("most", "characters"),
    "minItems": _sized("least", "items"),
    "maxItems": _sized("most", "items"),
    "minProperties": _sized("least", "names"),
    "maxProperties": _sized("most", "names"),
    "uniqueItems": lambda _rule, _value: "no item may come twice",
}


_ACCEPTED = Verdict()


class JsonSchemaValidator:
    """
    Validator that checks payloads by JSON Schema, one schema for each type of task.

    Every fault is a finding with its path, `payload.items[2].name`, and all are found
    at once. The form of a task is checked before, with any validator; to ask others as
    well, use `ValidatorChain`.

    The payload of a type with a schema is a JSON value: text, finite numbers, true and
    false, None, lists (or tuples) of them, and mappings of names to them, not more than
    50 deep. Types without a schema are accepted. With `unknown="refuse"` they are
    refused, unless the payload is a `Call` or a `Program`, which has checked itself.

    A schema follows the draft that its `$schema` names, and 2020-12 otherwise. `$ref`
    finds parts of the same schema, and the drafts themselves; nothing is ever fetched,
    and any other reference is refused when the validator is made. `format` is an
    annotation, as in the drafts, and checks nothing.

    It needs the library jsonschema: `pip install 'taskorch[schema]'`.

    Args:
        schemas: A schema for each type; they are copied.
        unknown: The answer for a task of another type: `"accept"`, `"refuse"`.

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
        """Return the faults in the payload of *task*, if there are any."""
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
            # A number may be too large for a division, or for a message.
            message = f"it cannot be checked: {show(error)}"
            findings = [Finding("payload", message)]
        # Some findings are found several times, so duplicates are removed.
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
