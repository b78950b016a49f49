"""
What documents may say: each kind is a class, and its fields say what they may be.

    @attrs.frozen
    class Phase:
        tests: str = attrs.field(metadata=may_be(Text()))
        limit: int | None = attrs.field(default=None, metadata=may_be(Number(least=1)))

A form reads a value, and notes all that is wrong with it; its schema, and its line on
the page of keys, are made of the same.

Decision: 0196.
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
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import meant, remedy_of_key

#: What a form returns of a value that is wrong.
WRONG: Final[Any] = object()
Schema = dict[str, Any]
#: The most that a number may be of which there is no most.
UNLIMITED: Final = sys.float_info.max
#: A date with a time zone, as in ISO 8601.
DATE: Final = re.compile(
    r"[1-9]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"[Tt ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?"
    r"(Z|z|[+-]([01]\d|2[0-3]):[0-5]\d)"
)
#: Faults that a message names.
_MOST_NAMED: Final = 50
#: From here on the most that a number may be goes without saying.
_MANY: Final = 1e9
_SIZES: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?B|[KMGT]IB)?", re.IGNORECASE)
_KEY: Final = "taskorch key"


# -- what is wrong ---------------------------------------------------------------------


class FaultList:
    """Gathers what is wrong, each with its place and its path."""

    def __init__(self) -> None:
        self._faults: dict[tuple[FilePlace, str], str] = {}

    def add(self, place: FilePlace, text: str, path: str = "") -> None:
        """Note *text* at *place*; once, however often it is met."""
        self._faults.setdefault((place, f"{path}: {text}".removeprefix(": ")), path)

    def wrong(self, node: Located, path: str, needed: str) -> Any:
        """Note that *node* is not what is *needed*; returns `WRONG`."""
        self.add(node.place, f"{needed} is needed, not {shown(node)}", path)
        return WRONG

    def unknown(self, name: Located, path: str, candidates: Iterable[str]) -> None:
        """Note a name that there is not, with the nearest one that there is."""
        text = f"there is no {show(name.value, 40)} here; {near(name, candidates)}"
        self.add(name.place, text, path)

    def disagree(self, name: str, first: Located, second: Located) -> None:
        """Note that *name* is said twice, and not the same."""
        message = f"{name} is {shown(second)} here, and {shown(first)} at {first.place}"
        self.add(second.place, message)

    def raised(self, error: Exception, place: FilePlace, path: str) -> Any:
        """Note what a check has raised; returns `WRONG`."""
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
        """All faults that were noted, with their places, in the order of the files."""
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
        All faults that were noted, in the order of the files.

        Each with its place or, where there is none, with its path.
        """
        return tuple(
            (str(place), text) if place.line else (path, text.removeprefix(f"{path}: "))
            for (place, text), path in self._ordered()
        )

    @property
    def lines(self) -> list[str]:
        """A line for each, or for the first of very many."""
        findings = self.findings
        more = len(findings) - _MOST_NAMED
        lines = [": ".join(one).removeprefix(": ") for one in findings[:_MOST_NAMED]]
        return [*lines, f"and {more} more"] if more > 0 else lines

    def refuse(self) -> None:
        """
        End here if anything was noted.

        Raises:
            ValidationFailedError: With all that was.
        """
        if self._faults:
            msg = "\n".join(self.lines)
            raise ValidationFailedError(msg, findings=self.findings, hint="")


def near(name: Located, candidates: Iterable[str]) -> str:
    """A hint: the one of *candidates* that *name* may mean, or all of them."""
    return remedy_of_key(name.value, candidates)


def shown(node: Located) -> str:
    """The value of *node* for a message."""
    value = node.value
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict | tuple):
        return "a mapping"
    return "nothing" if value is None else show(value, 40)


def _figure(number: float) -> str:
    """*number* for people: 0.000001, 1,000,000, 1e+12."""
    is_long = abs(number) >= _MANY
    return f"{number:g}" if is_long else f"{number:,.6f}".rstrip("0").removesuffix(".")


def _any_of(*schemas: Schema) -> Schema:
    """The schema of what fits one of these, each once."""
    flat: list[Schema] = []
    for schema in schemas:
        parts = schema["anyOf"] if [*schema] == ["anyOf"] else [schema]
        flat += [part for part in parts if part not in flat]
    return {"anyOf": flat}


# -- what a value may be ---------------------------------------------------------------


class ValueForm(Protocol):
    """Protocol: what a value may be."""

    @property
    def needs(self) -> str:
        """The words for what a value may be, in messages and on the page of keys."""
        ...

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        """What *node*, at *path*, says, or `WRONG`; what is wrong with it is noted."""
        ...

    def schema(self) -> Schema:
        """The JSON Schema of it."""
        ...


@attrs.frozen
class Text:
    """
    A text.

    Attributes:
        is_any: Whether it may be empty.
        is_blank: Whether it may be of spaces alone.
        is_secret: Whether no message shows it.
        check: What the text means; it raises an error of ours if it means nothing.
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
    """A number from *least* to *most*; *is_whole*: without a fraction."""

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
            # Where there is hardly a limit, only what is above it needs to hear of it.
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
        """See `ValueForm`."""
        is_many = self.most >= _MANY
        return self._begin if is_many else f"{self._begin} to {_figure(self.most)}"

    def schema(self) -> Schema:
        kind = "integer" if self.is_whole else "number"
        least = "exclusiveMinimum" if self.is_above else "minimum"
        schema = {"type": kind, least: self.least, "maximum": self.most}
        if self.most == UNLIMITED:
            del schema["maximum"]
        return schema


#: How much there is of something, or is needed of it.
AMOUNT: Final = Number(is_above=True)


@attrs.frozen
class Moment:
    """Seconds, or a date with a time zone; *zero*: whether it may be 0 seconds."""

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
    """One of some words: the keys of *meanings*; *more*: what else there may be."""

    meanings: Mapping[str, Any]
    more: str = ""

    @property
    def needs(self) -> str:
        """See `ValueForm`."""
        words = [*self.meanings, self.more] if self.more else [*self.meanings]
        return f"one of {', '.join(words)}" if words[1:] else words[0]

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        value = node.value
        if not isinstance(value, str) or value not in self.meanings:
            guess = meant(value, self.meanings) if isinstance(value, str) else ""
            text = f"{self.needs} is needed, not {shown(node)}"
            faults.add(node.place, f"{text}; {guess}" if guess else text, path)
            return WRONG
        return self.meanings[value]

    def schema(self) -> Schema:
        return {"enum": list(self.meanings)}


def one_of(*words: str) -> OneOf:
    """One of these words, which mean themselves."""
    return OneOf({word: word for word in words})


@attrs.frozen
class Flag:
    """`true` or `false`."""

    needs: str = "true or false"

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        if not isinstance(node.value, bool):
            return faults.wrong(node, path, self.needs)
        return node.value

    def schema(self) -> Schema:
        return {"type": "boolean"}


@attrs.frozen
class Anything:
    """What is read elsewhere, as plain values; *json*: its schema."""

    needs: str = "anything"
    json: Mapping[str, Any] = attrs.field(factory=dict[str, Any])

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        del path, faults
        return plain(node)

    def schema(self) -> Schema:
        return dict(self.json)


@attrs.frozen
class Maybe:
    """What *form* says, or null, which is None."""

    form: ValueForm

    @property
    def needs(self) -> str:
        """See `ValueForm`."""
        return self.form.needs

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        return None if node.value is None else self.form.read(node, path, faults)

    def schema(self) -> Schema:
        return _any_of(self.form.schema(), {"type": "null"})


@attrs.frozen
class Made:
    """What *make*, which may raise an error of ours, makes of what *form* says."""

    form: ValueForm
    make: Callable[[Any], Any]

    @property
    def needs(self) -> str:
        """See `ValueForm`."""
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
    """What one of two kinds says: *second* of a mapping, *first* of all else."""

    first: ValueForm
    second: ValueForm

    @property
    def needs(self) -> str:
        """See `ValueForm`."""
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
        form: What each of it may be.
        least: So many of them, or more.
        needs: See `ValueForm`.
        or_one: Whether one alone is such a list, too.
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
    A mapping that was read.

    Attributes:
        values: What its names say, of those that are well formed.
        nodes: The names and the values as they stand in the file.
        place: Where it begins.
    """

    values: Mapping[str, Any]
    nodes: Mapping[str, tuple[Located, Located]]
    place: FilePlace

    def get(self, name: str, default: Any = None) -> Any:
        """What *name* says, or *default*."""
        return self.values.get(name, default)

    def at(self, name: str) -> FilePlace:
        """Place of the value of *name*, or of the mapping if there is none."""
        return self.nodes[name][1].place if name in self.nodes else self.place

    def node(self, name: str) -> Located:
        """The value of *name* as it stands in the file."""
        return self.nodes[name][1]


class DocumentKey(NamedTuple):
    """
    A key that a document may have: the description of a field of its class.

    Attributes:
        field: The field of the class.
        form: What its value may be.
        words: Other words for it: both may stand there if they agree.
        is_needed: Whether it must be there.
        default: What it is if nothing is said.
        text: What it is, in words.
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
    The metadata of the attrs field of a key: see `DocumentKey`.

    Args:
        form: What its value may be.
        words: Other words for it.
        name: What documents call it; "": as the field.
        is_needed: Whether it must be there; None: if the class cannot do without.
    """
    return {_KEY: (form, words, name, is_needed)}


def field(form: ValueForm, *words: str, default: Any = None, **how: Any) -> Any:
    """A field of a class that is a document and nothing else: see `may_be`."""
    return attrs.field(default=default, metadata=may_be(form, *words, **how))


@cache
def keys_of(cls: type) -> Mapping[str, DocumentKey]:
    """The keys of documents of *cls*, in the order of its fields."""
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
    """The other words for keys of documents of *cls*, and which each means."""
    keys = keys_of(cls)
    return {word: name for name, one in keys.items() for word in one.words}


def names_of(cls: type) -> tuple[str, ...]:
    """Names that documents of *cls* may have: the keys, and other words for them."""
    return (*keys_of(cls), *_meanings(cls))


@attrs.frozen
class DocumentOf:
    """
    A mapping whose keys are described by the fields of a class.

    Attributes:
        cls: The class.
        make: What becomes of what its names say; None: it stays a `ReadMapping`.
        nulls: Whether a name without a value counts as not said.
        others: What is done with each name that there is not, and its value; None: it
            is noted.
        is_one: Whether exactly one of its names must be there.
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
    A mapping of names, which may be any, to values of one kind.

    Attributes:
        form: What each value may be.
        check: What a name must hold; it raises an error of ours if it does not.
        least: So many names, or more.
        plain: Whether it is read as a dict, and not as a `ReadMapping`.
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
            if not isinstance(place.value, str):
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
        tag: The name whose value says of which.
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


#: Policies, and files of such: which keys a policy has is known to what reads them.
POLICIES: Final = Each(
    Either(Text(), AnyNames(Anything(), plain=True)),
    needs="a list of policies, and of files of such",
    or_one=True,
)
