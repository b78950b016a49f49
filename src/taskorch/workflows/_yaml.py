"""
YAML 1.2, the part of it that is JSON in other letters.

PyYAML reads 1.1, where `no` is false, `1:30` is ninety and a date is a date; and its
safe loader follows aliases, by which a small text can mean a huge one, and takes the
last of two equal keys. None of that here.
"""

from __future__ import annotations

import re
from typing import Any, Final, NoReturn

import yaml

from taskorch.errors import InvalidTaskError, ValidationFailedError
from taskorch.model._show import show
from taskorch.workflows._located import Located, Place

#: Bytes, or characters, of a document: PyYAML takes up to ten seconds for so many.
_MAX_SIZE: Final = 1 << 20
#: How deep a document may be nested: a value of its own may be 50 levels deep.
MAX_DEPTH: Final = 100
_TAG: Final = "tag:yaml.org,2002:"
#: The words that are no text, by what they are: a pattern, and how they can begin.
_SCALARS: Final = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        (
            r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
        ),
        list("-+0123456789."),
    ),
}
#: The patterns alone.
SCALARS: Final = {
    name: re.compile(rf"(?:{pattern})\Z") for name, (pattern, _) in _SCALARS.items()
}


def number(kind: str, text: str) -> float:
    """
    What *text* says, an `int` or a `float`.

    Raises:
        ValueError: It has too many digits.
    """
    if kind == "float":
        # `.inf` and `.nan` are Python's without the point.
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    base = {"0o": 8, "0x": 16}.get(text[:2])
    return int(text) if base is None else int(text[2:], base)


def _refuse(text: str, mark: Any) -> NoReturn:
    raise yaml.constructor.ConstructorError(None, None, text, mark) from None


class Loader(yaml.SafeLoader):  # type: ignore[misc]  # it has no annotations
    """Reads the core schema of YAML 1.2, without aliases and tags."""

    # Those of the class above are of YAML 1.1.
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the library's

    #: How deep what is read now is nested.
    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            text = "an alias (*name) stands for other text; write that out"
            _refuse(text, event.start_mark)
        if self._depth >= MAX_DEPTH:
            text = f"it is nested more than {MAX_DEPTH} levels deep here"
            _refuse(text, event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, None] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                _refuse("a name is text", key.start_mark)
            if key.value in seen:
                _refuse(f"{key.value!r} stands here twice", key.start_mark)
            seen[key.value] = None
        return {
            # A name is text, whatever else it looks like.
            key.value: self.construct_object(value, deep=deep)
            for key, value in node.value
        }

    def construct_number(self, node: Any) -> float:
        try:
            return number(node.tag.removeprefix(_TAG), node.value)
        except ValueError:
            text = "this number has too many digits"
            _refuse(text, node.start_mark)

    def construct_other(self, node: Any) -> Any:
        _refuse(f"there is no tag {node.tag!r} here", node.start_mark)

    def scan_flow_scalar_non_spaces(self, double: bool, start_mark: Any) -> Any:
        try:
            return super().scan_flow_scalar_non_spaces(double, start_mark)
        except (ValueError, OverflowError):
            # It stands at the number, behind the backslash and its letter.
            text = "this escape stands for a character that there is not"
            _refuse(text, self.get_mark())


for _name, (_, _first) in _SCALARS.items():
    Loader.add_implicit_resolver(f"{_TAG}{_name}", SCALARS[_name], _first)
Loader.yaml_constructors = {
    f"{_TAG}null": Loader.construct_yaml_null,
    f"{_TAG}bool": Loader.construct_yaml_bool,
    f"{_TAG}int": Loader.construct_number,
    f"{_TAG}float": Loader.construct_number,
    f"{_TAG}str": Loader.construct_yaml_str,
    f"{_TAG}seq": Loader.construct_yaml_seq,
    f"{_TAG}map": Loader.construct_yaml_map,
    None: Loader.construct_other,
}


def compose(text: str | bytes, file: str) -> list[Located]:
    """
    The documents in *text*, with the place of each value.

    A mapping is a list of pairs here, so that a name may stand in it twice: whoever
    reads it says what that means.

    Args:
        text: Documents with `---` between them; an empty one is left out.
        file: What the places call it.

    Raises:
        ValidationFailedError: It is no YAML, or has what is not allowed here; the
            finding has its place.
    """
    if len(text) > _MAX_SIZE:
        problem = f"it has {len(text):,} characters, and {_MAX_SIZE:,} are allowed"
        raise _refused(str(Place(file, 1, 1)), problem)
    try:
        loader = Loader(text)
        found: list[Located] = []
        while loader.check_node():
            found.append(_located(loader, loader.get_node(), file))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = str(error.problem or error.context)
        raise _refused(str(_place(file, mark)), problem) from None
    except yaml.YAMLError as error:
        # A character that may not be in a text at all.
        raise _refused(str(Place(file, 1, 1)), " ".join(str(error).split())) from None
    except (RecursionError, ValueError) as error:
        raise _refused(str(Place(file, 1, 1)), f"it cannot be read: {error}") from None
    return [one for one in found if one.value is not None]


def _located(loader: Loader, node: Any, file: str) -> Located:
    place = _place(file, node.start_mark)
    if node.tag not in Loader.yaml_constructors:
        loader.construct_other(node)
    if isinstance(node, yaml.MappingNode):
        pairs: list[tuple[Located, Located]] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                _refuse("a name is text", key.start_mark)
            name = Located(key.value, _place(file, key.start_mark))
            pairs.append((name, _located(loader, value, file)))
        return Located(tuple(pairs), place)
    if isinstance(node, yaml.SequenceNode):
        return Located([_located(loader, item, file) for item in node.value], place)
    return Located(loader.construct_object(node), place)


def _place(file: str, mark: Any) -> Place:
    if mark is None:
        return Place(file, 1, 1)
    return Place(file, mark.line + 1, mark.column + 1)


def _refused(where: str, problem: str) -> ValidationFailedError:
    msg = f"{where}: {problem}"
    return ValidationFailedError(msg, findings=((where, problem),), hint="")


def load(text: str | bytes) -> Any:
    """
    What *text*, one document, says.

    Raises:
        InvalidTaskError: *text* is no text.
        ValidationFailedError: It is no YAML, or has what is not allowed here.
    """
    given: object = text
    if not isinstance(given, str | bytes):
        msg = f"the text of a workflow is needed, not {show(given)}"
        raise InvalidTaskError(msg, hint="Path(…).read_text() reads a file")
    if len(text) > _MAX_SIZE:
        problem = f"it has {len(text):,} characters, and {_MAX_SIZE:,} are allowed"
        msg = f"the YAML of the workflow was refused: {problem}"
        hint = "write a large one as JSON: Workflow.from_dict(json.loads(text))"
        raise ValidationFailedError(msg, findings=(("", problem),), hint=hint)
    try:
        return yaml.load(text, Loader)  # noqa: S506 - a safe one
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
    except (RecursionError, ValueError) as error:
        # A version of YAML with ten thousand digits; or a caller who is deep in calls
        # himself.
        problem = f"it cannot be read: {error}"
    msg = f"the YAML of the workflow was refused: {problem}"
    raise ValidationFailedError(msg, findings=(("", problem),), hint="")
