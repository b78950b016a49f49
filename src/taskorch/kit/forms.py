"""
Forms of documents: each kind is a class, with a form for each field.

    @attrs.frozen
    class Phase:
        tests: str = attrs.field(metadata=may_be(Text()))
        limit: int | None = attrs.field(default=None, metadata=may_be(Number(least=1)))

A form reads a value, and notes all its faults; its schema, and its line on the page of
keys, are made from it, too.

Decision: documents.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple, Protocol

import attrs

from taskorch.errors import InvalidTaskError, TaskorchError, ValidationFailedError
from taskorch.kit.checks import check_seconds, is_number
from taskorch.kit.described import texts_of
from taskorch.kit.limits import MAX_AMOUNT, MAX_SECONDS
from taskorch.kit.located import FilePlace, Located, plain
from taskorch.kit.visible import is_text, show
from taskorch.kit.vocabulary import meant, remedy_of_key

#: The value that a form returns for an invalid one.
WRONG: Final[Any] = object()
Schema = dict[str, Any]
#: The limit of a number without a limit.
UNLIMITED: Final = sys.float_info.max
#: A date with a time zone, as in ISO 8601.
DATE: Final = re.compile(
    r"[1-9]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"[Tt ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?"
    r"(Z|z|[+-]([01]\d|2[0-3]):[0-5]\d)"
)
#: The most faults that a message names.
_MOST_NAMED: Final = 50
#: The limit from which on the text leaves it out.
_MANY: Final = 1e9
_SIZES: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?B|[KMGT]IB)?", re.IGNORECASE)
_KEY: Final = "taskorch key"


# -- faults ----------------------------------------------------------------------------


class FaultList:
    """Collection of faults, each with its place and its path."""

    def __init__(self) -> None:
        self._faults: dict[tuple[FilePlace, str], str] = {}

    def add(self, place: FilePlace, text: str, path: str = "") -> None:
        """Note *text* at *place*, once even if it is met again."""
        self._faults.setdefault((place, f"{path}: {text}".removeprefix(": ")), path)

    def wrong(self, node: Located, path: str, needed: str) -> Any:
        """Note that *node* is not what is *needed*; return `WRONG`."""
        self.add(node.place, f"{needed} is needed, not {shown(node)}", path)
        return WRONG

    def unknown(self, name: Located, path: str, candidates: Iterable[str]) -> None:
        """Note an unknown name, with the nearest known one."""
        text = f"there is no {show(name.value, 40)} here; {near(name, candidates)}"
        self.add(name.place, text, path)

    def disagree(self, name: str, first: Located, second: Located) -> None:
        """Note that *name* has two different values."""
        message = f"{name} is {shown(second)} here, and {shown(first)} at {first.place}"
        self.add(second.place, message)

    def raised(self, error: Exception, place: FilePlace, path: str) -> Any:
        """Note the error of a check; return `WRONG`."""
        hint = (
            f" ({error.hint})"
            if isinstance(error, TaskorchError) and error.hint
            else ""
        )
        message = error.message if isinstance(error, TaskorchError) else str(error)
        self.add(place, f"{message}{hint}", path)
        return WRONG

    def __len__(self) -> int:
        return len(self._faults)

    @property
    def placed(self) -> list[tuple[FilePlace, str]]:
        """All faults with their places, in the order of the files."""
        return [(place, text) for (place, text), _ in self._ordered()]

    def _ordered(self) -> list[tuple[tuple[FilePlace, str], str]]:
        files = list(dict.fromkeys(place.file for place, _ in self._faults))
        return sorted(
            self._faults.items(),
            key=lambda item: (files.index(item[0][0].file), *item[0][0][1:]),
        )

    @property
    def findings(self) -> tuple[tuple[str, str], ...]:
        """
        All noted faults, in the order of the files.

        Each has its place or, without one, its path.
        """
        return tuple(
            (str(place), text) if place.line else (path, text.removeprefix(f"{path}: "))
            for (place, text), path in self._ordered()
        )

    @property
    def lines(self) -> list[str]:
        """A line for each fault, or for the first of very many."""
        findings = self.findings
        more = len(findings) - _MOST_NAMED
        lines = [": ".join(one).removeprefix(": ") for one in findings[:_MOST_NAMED]]
        return [*lines, f"and {more} more"] if more > 0 else lines

    def refuse(self) -> None:
        """
        Raise an error if there are faults.

        Raises:
            ValidationFailedError: There are faults; it has all of them.
        """
        if self._faults:
            msg = "\n".join(self.lines)
            raise ValidationFailedError(msg, findings=self.findings, hint="")


def near(name: Located, candidates: Iterable[str]) -> str:
    """Return a hint: the one of *candidates* that *name* may mean, or all of them."""
    return remedy_of_key(name.value, candidates)


def shown(node: Located) -> str:
    """Return the value of *node* for a message."""
    value = node.value
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict | tuple):
        return "a mapping"
    return "nothing" if value is None else show(value, 40)


def _figure(number: float) -> str:
    """Return *number* for people: 0.000001, 1,000,000, 1e+12."""
    is_long = abs(number) >= _MANY
    return f"{number:g}" if is_long else f"{number:,.6f}".rstrip("0").removesuffix(".")


def _any_of(*schemas: Schema) -> Schema:
    """Return the schema of a value that fits one of these, each once."""
    flat: list[Schema] = []
    for schema in schemas:
        parts = schema["anyOf"] if [*schema] == ["anyOf"] else [schema]
        flat += [part for part in parts if part not in flat]
    return {"anyOf": flat}


# -- forms of values -------------------------------------------------------------------


class ValueForm(Protocol):
    """Protocol: the form of a value."""

    @property
    def needs(self) -> str:
        """Description of valid values, for messages and the page of keys."""
        ...

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        """Return the value of *node*, at *path*, or `WRONG` after noting its faults."""
        ...

    def schema(self) -> Schema:
        """Return the JSON Schema of the form."""
        ...


@attrs.frozen
class Text:
    """
    A text.

    Attributes:
        is_any: True if it may be empty.
        is_blank: True if it may consist of spaces alone.
        is_secret: True if no message shows it.
        check: A function that parses the text; it raises an error of ours for an
            invalid one.
        needs: See `ValueForm`.
    """

    is_any: bool = False
    is_blank: bool = False
    is_secret: bool = False
    check: Callable[[str], Any] | None = None
    needs: str = "a text"

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        value = node.value
        is_text = isinstance(value, str)
        if not is_text or not (
            self.is_any or (value if self.is_blank else value.strip())
        ):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            text = f"{self.needs} is needed"
            text += "" if self.is_secret else f", not {shown(node)}"
            text += ": put it in quotes" if is_number else ""
            faults.add(node.place, text, path)
            return WRONG
        try:
            return value if self.check is None else self.check(value)
        except ValueError as error:
            return faults.raised(error, node.place, path)

    def schema(self) -> Schema:
        return {"type": "string"} if self.is_any else {"type": "string", "minLength": 1}


@attrs.frozen
class Number:
    """A number from *least* to *most*; with *is_whole*, without a fraction."""

    least: float = 0
    most: float = MAX_AMOUNT
    is_whole: bool = False
    is_above: bool = False

    def read(self, node: Located, path: str, faults: FaultList) -> float:
        value = node.value
        fits = (
            is_number(value, self.least, self.most)
            and not (self.is_above and value == self.least)
            and (not self.is_whole or value == int(value))
        )
        if not fits:
            # If there is hardly a limit, only a value above it gets a message about it.
            too_much = isinstance(value, int | float) and value > self.most
            text = f"{self._begin} to {_figure(self.most)}" if too_much else self.needs
            wrong: float = faults.wrong(node, path, text)
            return wrong
        return int(value) if self.is_whole else float(value)

    @property
    def _begin(self) -> str:
        text = "a whole number" if self.is_whole else "a number"
        return f"{text} {'above' if self.is_above else 'from'} {_figure(self.least)}"

    @property
    def needs(self) -> str:
        """Description of valid values: see `ValueForm`."""
        is_many = self.most >= _MANY
        return self._begin if is_many else f"{self._begin} to {_figure(self.most)}"

    def schema(self) -> Schema:
        kind = "integer" if self.is_whole else "number"
        least = "exclusiveMinimum" if self.is_above else "minimum"
        schema = {"type": kind, least: self.least, "maximum": self.most}
        if self.most == UNLIMITED:
            del schema["maximum"]
        return schema


#: An amount of a resource.
AMOUNT: Final = Number(is_above=True)


@attrs.frozen
class Moment:
    """Seconds, or a date with a time zone; *zero* allows 0 seconds."""

    zero: bool = True
    needs: str = "a number of seconds, or a date as in 2030-01-31T12:00:00+00:00,"

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        value = node.value
        if isinstance(value, str) and DATE.fullmatch(value):
            try:
                return datetime.fromisoformat(value)
            except ValueError as error:
                return faults.raised(error, node.place, path)
        try:
            return check_seconds("it", value, zero=self.zero)
        except InvalidTaskError:
            return faults.wrong(node, path, self.needs)

    def schema(self) -> Schema:
        least = "minimum" if self.zero else "exclusiveMinimum"
        seconds = {"type": "number", least: 0, "maximum": MAX_SECONDS}
        return {"anyOf": [seconds, {"type": "string", "pattern": f"^{DATE.pattern}$"}]}


@attrs.frozen
class Size:
    """A number of bytes: `100MB`, `1.5 GB`, `4096`."""

    needs: str = "a size, such as 100MB,"

    def read(self, node: Located, path: str, faults: FaultList) -> int:
        match = _SIZE.fullmatch(str(node.value).strip())
        size = 0
        if match is not None and not isinstance(node.value, bool):
            unit = (match[2] or "").upper()
            factor = _SIZES.get(unit)
            if factor is None:
                factor = 2 ** (10 * " KMGT".index(unit[0]))
            size = int(float(match[1]) * factor)
        if not 0 < size <= MAX_AMOUNT:
            wrong: int = faults.wrong(node, path, self.needs)
            return wrong
        return size

    def schema(self) -> Schema:
        return {"type": ["string", "integer"], "pattern": f"^{_SIZE.pattern}$"}


@attrs.frozen
class OneOf:
    """One of the keys of *meanings*; *more* describes further values."""

    meanings: Mapping[str, Any]
    more: str = ""

    @property
    def needs(self) -> str:
        """Description of valid values: see `ValueForm`."""
        words = [*self.meanings, self.more] if self.more else [*self.meanings]
        return f"one of {', '.join(words)}" if words[1:] else words[0]

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        value = node.value
        if not is_text(value) or value not in self.meanings:
            guess = meant(value, self.meanings) if isinstance(value, str) else ""
            text = f"{self.needs} is needed, not {shown(node)}"
            faults.add(node.place, f"{text}; {guess}" if guess else text, path)
            return WRONG
        return self.meanings[value]

    def schema(self) -> Schema:
        return {"enum": list(self.meanings)}


def one_of(*words: str) -> OneOf:
    """Return the form of one of these words, which mean themselves."""
    return OneOf({word: word for word in words})


@attrs.frozen
class Flag:
    """`true` or `false`, or a *word*, if there is one."""

    word: str = ""

    @property
    def needs(self) -> str:
        """See `ValueForm`."""
        return f"true, false or {self.word!r}" if self.word else "true or false"

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        if not isinstance(node.value, bool) and (
            not self.word or node.value != self.word
        ):
            return faults.wrong(node, path, self.needs)
        return node.value

    def schema(self) -> Schema:
        kind = {"type": "boolean"}
        return _any_of(kind, one_of(self.word).schema()) if self.word else kind


@attrs.frozen
class Anything:
    """Any plain value, which other code reads; *json* is its schema."""

    needs: str = "anything"
    json: Mapping[str, Any] = attrs.field(factory=dict[str, Any])

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        del path, faults
        return plain(node)

    def schema(self) -> Schema:
        return dict(self.json)


@attrs.frozen
class Maybe:
    """A value of *form*, or null, which becomes None."""

    form: ValueForm

    @property
    def needs(self) -> str:
        """Description of valid values: see `ValueForm`."""
        return self.form.needs

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        return None if node.value is None else self.form.read(node, path, faults)

    def schema(self) -> Schema:
        return _any_of(self.form.schema(), {"type": "null"})


@attrs.frozen
class Made:
    """The result of *make* for a value of *form*; *make* may raise our errors."""

    form: ValueForm
    make: Callable[[Any], Any]

    @property
    def needs(self) -> str:
        """Description of valid values: see `ValueForm`."""
        return self.form.needs

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        value = self.form.read(node, path, faults)
        if value is WRONG:
            return WRONG
        try:
            return self.make(value)
        except ValueError as error:
            return faults.raised(error, node.place, path)

    def schema(self) -> Schema:
        return self.form.schema()


@attrs.frozen
class Either:
    """A value of *second* if it is a mapping, else of *first*."""

    first: ValueForm
    second: ValueForm

    @property
    def needs(self) -> str:
        """Description of valid values: see `ValueForm`."""
        return f"{self.first.needs}, or {self.second.needs}"

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        form = self.second if isinstance(node.value, dict) else self.first
        return form.read(node, path, faults)

    def schema(self) -> Schema:
        return _any_of(self.first.schema(), self.second.schema())


@attrs.frozen
class Each:
    """
    A list.

    Attributes:
        form: The form of each item.
        least: The least number of items.
        needs: See `ValueForm`.
        or_one: True if a single item stands for a list, too.
    """

    form: ValueForm
    least: int = 0
    needs: str = "a list"
    or_one: bool = False

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        items = node.value
        if self.or_one and not isinstance(items, list | dict):
            items = [node]
        if not isinstance(items, list) or len(items) < self.least:
            return faults.wrong(node, path, self.needs)
        values = [
            self.form.read(
                item, f"{path}[{index}]" if item is not node else path, faults
            )
            for index, item in enumerate(items)
        ]
        return [value for value in values if value is not WRONG]

    def schema(self) -> Schema:
        schema: Schema = {"type": "array", "items": self.form.schema()}
        if self.least:
            schema["minItems"] = self.least
        return _any_of(schema, self.form.schema()) if self.or_one else schema


# -- mappings --------------------------------------------------------------------------


@attrs.frozen
class ReadMapping:
    """
    A mapping after reading.

    Attributes:
        values: The values of its names, if well formed.
        nodes: The names and values as they stand in the file.
        place: The place where it begins.
    """

    values: Mapping[str, Any]
    nodes: Mapping[str, tuple[Located, Located]]
    place: FilePlace

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of *name*, or *default*."""
        return self.values.get(name, default)

    def part(self, name: str) -> ReadMapping:
        """Return the mapping that *name* has, or an empty one."""
        empty = ReadMapping({}, {}, self.place)
        part: ReadMapping = self.values.get(name, empty)
        return part

    def at(self, name: str) -> FilePlace:
        """Return the place of the value of *name*, or else of the mapping."""
        return self.nodes[name][1].place if name in self.nodes else self.place

    def node(self, name: str) -> Located:
        """Return the value of *name* as it stands in the file."""
        return self.nodes[name][1]


class DocumentKey(NamedTuple):
    """
    A key that a document may have: the description of a field of its class.

    Attributes:
        field: The field of the class.
        form: The form of its value.
        words: Other words for it: both may be there if they agree.
        is_needed: True if it must be there.
        default: Its default value.
        text: Its description.
    """

    field: str
    form: ValueForm
    words: tuple[str, ...]
    is_needed: bool
    default: Any
    text: str


def may_be(
    form: ValueForm, *words: str, name: str = "", is_needed: bool | None = None
) -> dict[str, Any]:
    """
    Return the metadata of the attrs field of a key: see `DocumentKey`.

    Args:
        form: The form of its value.
        words: Other words for it.
        name: Its name in documents; "" for that of the field.
        is_needed: True if it must be there; None if the field has no default.
    """
    return {_KEY: (form, words, name, is_needed)}


def field(form: ValueForm, *words: str, default: Any = None, **how: Any) -> Any:
    """Return a field of a class that is only a document: see `may_be`."""
    return attrs.field(default=default, metadata=may_be(form, *words, **how))


@cache
def keys_of(cls: type) -> Mapping[str, DocumentKey]:
    """Return the keys of documents of *cls*, in the order of its fields."""
    texts = {
        name: text
        for base in reversed(cls.__mro__)
        for name, text in texts_of(base).items()
    }
    keys: dict[str, DocumentKey] = {}
    for field in attrs.fields(cls):
        if _KEY in field.metadata:
            form, words, other, is_needed = field.metadata[_KEY]
            name: str = other or field.name
            keys[name] = DocumentKey(
                field.name,
                form,
                words,
                field.default is attrs.NOTHING if is_needed is None else is_needed,
                field.default,
                texts.get(field.name, ""),
            )
    return keys


@cache
def _meanings(cls: type) -> Mapping[str, str]:
    """Return other words for keys of documents of *cls*, each with its key."""
    keys = keys_of(cls)
    return {word: name for name, one in keys.items() for word in one.words}


def names_of(cls: type) -> tuple[str, ...]:
    """Return the keys that documents of *cls* may have, and other words for them."""
    return (*keys_of(cls), *_meanings(cls))


@attrs.frozen
class DocumentOf:
    """
    A mapping whose keys are described by the fields of a class.

    Attributes:
        cls: The class.
        make: The function that makes an object of the values; None leaves a
            `ReadMapping`.
        nulls: True if a name without a value counts as missing.
        others: A function for each unknown name and its value; None notes a fault.
        is_one: True if exactly one of its names must be there.
    """

    cls: type
    make: Callable[..., Any] | None = None
    nulls: bool = False
    others: Callable[[Located, Located], None] | None = None
    is_one: bool = False
    rest: ValueForm | None = None
    needs: str = "a mapping"

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        keys = keys_of(self.cls)
        before = len(faults)
        if isinstance(node.value, dict):
            entry = self._entry(node, path, keys, faults)
        elif node.value is None and not (
            self.is_one or any(one.is_needed for one in keys.values())
        ):
            entry = ReadMapping({}, {}, node.place)
        else:
            return faults.wrong(node, path, self.needs)
        if self.make is None:
            return entry
        if len(faults) > before:
            return WRONG
        try:
            return self.make(
                **{
                    keys[name].field if name in keys else name: value
                    for name, value in entry.values.items()
                }
            )
        except (TypeError, ValueError) as error:
            return faults.raised(error, node.place, path)

    def _entry(
        self,
        node: Located,
        path: str,
        keys: Mapping[str, DocumentKey],
        faults: FaultList,
    ) -> ReadMapping:
        meanings = _meanings(self.cls)
        values: dict[str, Any] = {}
        nodes: dict[str, tuple[Located, Located]] = {}
        for name, value in node.value.values():
            meaning = str(meanings.get(name.value, name.value))
            if meaning not in keys and self.rest is None:
                if self.others is not None:
                    self.others(name, value)
                else:
                    faults.unknown(name, path, names_of(self.cls))
                continue
            if value.value is None and self.nulls:
                continue
            inner = f"{path}.{name.value}" if path else name.value
            form = keys[meaning].form if meaning in keys else self.rest
            parsed = WRONG if form is None else form.read(value, inner, faults)
            if meaning in nodes and values.get(meaning, WRONG) != parsed:
                other, before = nodes[meaning]
                faults.disagree(f"{inner} ({other.value})", before, value)
            nodes.setdefault(meaning, (name, value))
            if parsed is not WRONG:
                values.setdefault(meaning, parsed)
        for name, one in keys.items():
            if one.is_needed and name not in nodes:
                inner = f"{path}.{name}" if path else name
                faults.add(node.place, "it is missing", inner)
        if self.is_one and len(nodes) != 1:
            faults.add(node.place, f"one of {', '.join(keys)} is needed", path)
        return ReadMapping(values, nodes, node.place)

    def schema(self) -> Schema:
        keys = keys_of(self.cls)
        properties = {
            word: {"description": one.text, **one.form.schema()}
            if one.text
            else one.form.schema()
            for name, one in keys.items()
            for word in (name, *one.words)
        }
        schema: Schema = {"type": "object", "properties": properties}
        needed = [name for name, one in keys.items() if one.is_needed]
        if needed:
            schema["required"] = needed
        if self.is_one:
            schema |= {"minProperties": 1, "maxProperties": 1}
        others: Any = False if self.rest is None else self.rest.schema()
        return {**schema, "additionalProperties": others}


@attrs.frozen
class AnyNames:
    """
    A mapping of arbitrary names to values of one kind.

    Attributes:
        form: The form of each value.
        check: The check of a name; it raises an error of ours for an invalid one.
        least: The least number of names.
        plain: True if it is read as a dict, and not as a `ReadMapping`.
    """

    form: ValueForm
    check: Callable[[str], Any] | None = None
    least: int = 0
    plain: bool = False
    needs: str = "a mapping"

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        nodes = {} if node.value is None else node.value
        if not isinstance(nodes, dict) or len(nodes) < self.least:
            return faults.wrong(node, path, self.needs)
        values: dict[str, Any] = {}
        for name, (place, value) in nodes.items():
            inner = f"{path}.{name}" if path else name
            if not is_text(place.value):
                text = f"a name is text, not {show(place.value, 40)}"
                faults.add(place.place, text, path)
                continue
            try:
                parsed = self.form.read(value, inner, faults)
                if self.check is not None:
                    self.check(name)
            except ValueError as error:
                parsed = faults.raised(error, place.place, inner)
            if parsed is not WRONG:
                values[name] = parsed
        return values if self.plain else ReadMapping(values, nodes, node.place)

    def schema(self) -> Schema:
        schema = {"type": "object", "additionalProperties": self.form.schema()}
        return schema | ({"minProperties": self.least} if self.least else {})


@attrs.frozen
class Tagged:
    """
    A mapping of one of several classes.

    Attributes:
        tag: The name whose value chooses the class.
        kinds: The classes by that value.
    """

    tag: str
    kinds: Mapping[str, type]
    needs: str = "a mapping"

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        if not isinstance(node.value, dict):
            return faults.wrong(node, path, self.needs)
        others = dict(node.value)
        inner = f"{path}.{self.tag}"
        if self.tag not in others:
            faults.add(node.place, "it is missing", inner)
            return WRONG
        _, name = others.pop(self.tag)
        kind = one_of(*self.kinds).read(name, inner, faults)
        if kind is WRONG:
            return WRONG
        cls = self.kinds[kind]
        return DocumentOf(cls, make=cls).read(Located(others, node.place), path, faults)

    def schema(self) -> Schema:
        schemas: list[Schema] = []
        for name, cls in self.kinds.items():
            schema = DocumentOf(cls).schema()
            schema["properties"] = {self.tag: {"const": name}, **schema["properties"]}
            schema["required"] = [self.tag, *schema.get("required", ())]
            schemas.append(schema)
        return {"anyOf": schemas}


#: Policies, or files of them; the code that reads policies knows their keys.
POLICIES: Final = Each(
    Either(Text(), AnyNames(Anything(), plain=True)),
    needs="a list of policies, and of files of such",
    or_one=True,
)
