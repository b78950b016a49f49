"""
Faults of values by the schemas that describe them.

What is wrong with a value is found at once, each fault with its path and the nearest
right word. Of JSON Schema it knows what bodies of requests and arguments of tools are
described by. Patterns are left to what the value is made into, and so are parts that
have their own reader, such as tasks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeAlias

from taskorch.kit.visible import show
from taskorch.kit.vocabulary import remedy_of_key

Schema: TypeAlias = Mapping[str, Any]
#: A path such as `results[0].attempt`, and what is wrong there.
Finding: TypeAlias = tuple[str, str]

_SHOWN: Final = 60
#: The most findings by which one of several schemas is told from the others.
_MOST: Final = 100
_IS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: type(value) is bool,
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) is int or type(value) is float,
    "string": lambda value: type(value) is str,
    "array": lambda value: type(value) is list,
    "object": lambda value: type(value) is dict,
}
_WORDS: Final = {
    "null": "null",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "array": "a list",
    "object": "an object",
}


def findings_of(
    schema: Schema, value: Any, parts: Schema, path: str = ""
) -> Iterator[Finding]:
    """
    Yield all faults of *value*, which stands at *path*.

    Args:
        schema: The schema that the value must fit.
        value: The value, as JSON has it.
        parts: The schemas that others refer to, by the name at the end of the
            reference; a reference to another schema is not checked.
        path: Where it stands.
    """
    if _is_endless(value):
        yield path, f"JSON has no {value}"
        return
    if "$ref" in schema:
        schema = parts.get(schema["$ref"].rpartition("/")[2], {})
    if "anyOf" in schema:
        # The one that is of its kind says best what is wrong with it.
        fit = [one for one in schema["anyOf"] if "$ref" in one or _is_of(one, value)]
        misfits = [
            list(islice(findings_of(one, value, parts, path), _MOST)) for one in fit
        ]
        if misfits:
            yield from min(misfits, key=len)
            return
    if not _fits(schema, value):
        is_long = type(value) is str and _is_of(schema, value)
        actual = f"one of {len(value):,}" if is_long else _shown(value)
        yield path, f"{_needed(schema)}, not {actual}"
    elif type(value) is dict:
        yield from _members(schema, value, parts, path)
    elif type(value) is list:
        items = schema.get("items", {})
        for index, one in enumerate(value):
            yield from findings_of(items, one, parts, f"{path}[{index}]")


def _is_endless(value: Any) -> bool:
    """Whether *value* is a number that JSON has not: NaN, or an infinity."""
    return type(value) is float and not math.isfinite(value)


def _shown(value: Any) -> str:
    return (
        json.dumps(value)
        if value is None or type(value) is bool
        else show(value, _SHOWN)
    )


def _members(
    schema: Schema, value: Mapping[str, Any], parts: Schema, path: str
) -> Iterator[Finding]:
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties", {})
    within = f"{path}." if path else ""
    for name in value:
        if name not in properties and others is False:
            text = f"it is not known here: {remedy_of_key(name, properties)}"
            yield f"{within}{name}", text
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{within}{name}", "it is missing"
    for name, one in value.items():
        part = properties.get(name, others)
        if part is not False:
            yield from findings_of(part, one, parts, f"{within}{name}")


def _is_of(schema: Schema, value: Any) -> bool:
    """Whether *value* is of one of the types of *schema*, or a word of it."""
    if "const" in schema or "enum" in schema:
        words = schema.get("enum", [schema.get("const")])
        return any(type(word) is type(value) and word == value for word in words)
    if "anyOf" in schema:
        return any(_is_of(one, value) for one in schema["anyOf"])
    kinds = _types(schema)
    return not kinds or any(_IS[kind](value) for kind in kinds)


def _fits(schema: Schema, value: Any) -> bool:
    """Whether *value* is of the type of *schema*, and within its bounds."""
    if not _is_of(schema, value):
        return False
    if type(value) is int or type(value) is float:
        least: float = schema.get("minimum", -math.inf)
        above: float = schema.get("exclusiveMinimum", -math.inf)
        most: float = schema.get("maximum", math.inf)
        return least <= value <= most and above < value
    if type(value) is str or type(value) is list:
        shortest, longest = _lengths(schema)
        return shortest <= len(value) <= longest
    return True


def _types(schema: Schema) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _lengths(schema: Schema) -> tuple[int, float]:
    least = schema.get("minLength", schema.get("minItems", 0))
    return least, schema.get("maxLength", schema.get("maxItems", math.inf))


def _needed(schema: Schema) -> str:
    """Say in words which values *schema* needs."""
    words = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if words:
        return f"{_or([str(word) for word in words])} is needed"
    if "anyOf" in schema:
        kinds = [_needed(one).partition(" is needed")[0] for one in schema["anyOf"]]
        return f"{_or(kinds)} is needed"
    wanted = _or([_WORDS[kind] for kind in _types(schema)])
    bounds = _bounds(schema)
    if schema.get("description", "").startswith("Seconds"):
        return f"seconds are needed, {bounds.strip()}".rstrip(", ")
    return f"{wanted}{bounds} is needed"


def _bounds(schema: Schema) -> str:
    if "exclusiveMinimum" in schema:
        return f" above {schema['exclusiveMinimum']:,}"
    if "minimum" in schema:
        end = f" to {schema['maximum']:,}" if "maximum" in schema else ""
        return f" from {schema['minimum']:,}{end}"
    least, most = _lengths(schema)
    of = " characters" if "string" in _types(schema) else ""
    if most < math.inf:
        return f" of {least or 'at most'}{' to' if least else ''} {most:,}{of}"
    return f" of at least {least}{of}" if least else ""


def _or(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
