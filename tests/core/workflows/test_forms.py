"""What documents may say is in their classes: reading, schemas and faults come of it."""

from __future__ import annotations

import attrs
import jsonschema
import pytest
from hypothesis import given, strategies as st

from taskorch.errors import ValidationFailedError
from taskorch.ext.suites._keys import CONFIGURATION
from taskorch.kit.forms import (
    WRONG,
    AnyNames,
    DocumentOf,
    Each,
    Either,
    FaultList,
    Flag,
    Made,
    Maybe,
    Moment,
    Number,
    Size,
    Tagged,
    Text,
    keys_of,
    may_be,
    one_of,
)
from taskorch.kit.located import located, with_names_once
from taskorch.kit.yaml_text import read
from taskorch.model import Resources
from taskorch.model.forms import ID


@attrs.frozen
class Wheel:
    """
    A wheel.

    Attributes:
        size: How large it is.
        spokes: How many it has.
    """

    size: float = attrs.field(metadata=may_be(Number(is_above=True), "diameter"))
    spokes: int = attrs.field(
        default=0, metadata=may_be(Number(most=99, is_whole=True))
    )


@attrs.frozen
class Cart:
    """
    A cart.

    Attributes:
        name: What it is called.
        wheels: Its wheels.
        front: One that is another.
        color: Its color.
        load: What it may carry.
        note: What is said of it.
        is_new: Whether it is.
        parts: Its parts, by name.
    """

    name: str = attrs.field(metadata=may_be(ID))
    wheels: list = attrs.field(
        factory=list, metadata=may_be(Each(DocumentOf(Wheel, make=Wheel), or_one=True))
    )
    front: object = attrs.field(
        default=None, metadata=may_be(Either(one_of("none"), DocumentOf(Wheel)))
    )
    color: str = attrs.field(default="red", metadata=may_be(one_of("red", "green")))
    load: int = attrs.field(default=0, metadata=may_be(Size(), name="max_load"))
    note: str | None = attrs.field(default="", metadata=may_be(Maybe(Text(True))))
    is_new: bool = attrs.field(default=False, metadata=may_be(Flag()))
    parts: dict = attrs.field(
        factory=dict, metadata=may_be(AnyNames(Text(), plain=True))
    )


CART = DocumentOf(Cart, make=Cart)


def read_text(text, form=CART):
    """What *text* says, and what is wrong with it."""
    (node,), wrong = read(text, "cart.yaml")
    faults = FaultList()
    value = form.read(with_names_once(node, wrong), "", faults)
    return value, list(faults.findings)


def test_all_that_is_wrong_is_said_at_once_with_its_place_and_the_nearest_word():
    text = """\
nme: one
wheels:
  - {size: 0}
  - {size: 1, diameter: 2, spoke: 3}
  - round
front: {spokes: 100}
color: gren
max_load: lots
is_new: 1
parts: {bell: ''}
"""
    value, faults = read_text(text)
    assert value is WRONG
    assert faults == [
        ("cart.yaml:1:1", "there is no 'nme' here; did you mean 'name'?"),
        ("cart.yaml:1:1", "name: it is missing"),
        ("cart.yaml:3:12", "wheels[0].size: a number above 0 is needed, not 0"),
        (
            "cart.yaml:4:25",
            "wheels[1].diameter (size) is 2 here, and 1 at cart.yaml:4:12",
        ),
        (
            "cart.yaml:4:28",
            "wheels[1]: there is no 'spoke' here; did you mean 'spokes'?",
        ),
        ("cart.yaml:5:5", "wheels[2]: a mapping is needed, not 'round'"),
        ("cart.yaml:6:8", "front.size: it is missing"),
        (
            "cart.yaml:6:17",
            "front.spokes: a whole number from 0 to 99 is needed, not 100",
        ),
        (
            "cart.yaml:7:8",
            "color: one of red, green is needed, not 'gren'; did you mean 'green'?",
        ),
        ("cart.yaml:8:11", "max_load: a size, such as 100MB, is needed, not 'lots'"),
        ("cart.yaml:9:9", "is_new: true or false is needed, not 1"),
        ("cart.yaml:10:15", "parts.bell: a text is needed, not ''"),
    ]


def test_what_stands_in_no_file_has_paths_for_places():
    faults = FaultList()
    CART.read(located({"name": "a/b", "wheels": [{"size": "x"}]}), "", faults)
    assert faults.findings == (
        ("name", "'a/b' has a slash"),
        ("wheels[0].size", "a number above 0 is needed, not 'x'"),
    )
    with pytest.raises(ValidationFailedError, match="wheels"):
        faults.refuse()


def test_what_is_nested_without_end_is_refused():
    value = {}
    for _ in range(100_000):
        value = {"name": value}
    with pytest.raises(ValidationFailedError, match="more than 100 levels deep"):
        located(value)
    while value:
        value = value.pop("name")


@attrs.frozen
class Lock:
    """
    A lock.

    Attributes:
        key: One way to open it.
        code: Another.
    """

    key: str = attrs.field(default=None, metadata=may_be(Text()))
    code: int = attrs.field(default=None, metadata=may_be(Number(is_whole=True)))


@pytest.mark.parametrize("document", [{}, {"key": "x", "code": 1}])
def test_of_some_keys_exactly_one_is_needed(document):
    faults = FaultList()
    DocumentOf(Lock, is_one=True).read(
        located({"lock": document}).value["lock"][1], "lock", faults
    )
    assert faults.findings == (("lock", "one of key, code is needed"),)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("2 kB", 2000), ("1.5MiB", 1.5 * 2**20), ("1GB", 10**9)],
)
def test_a_size_is_in_bytes(text, size):
    assert Size().read(located(text), "size", FaultList()) == size


@pytest.mark.parametrize(
    ("form", "value", "needed"),
    [
        (Text(), " ", "a text is needed, not ' '"),
        (Text(is_blank=True), "", "a text is needed, not ''"),
        (Text(is_secret=True), 4711, "a text is needed: put it in quotes"),
        (Moment(zero=False), 0, "a number of seconds, or a date"),
        (Moment(), "2030-13-01T00:00Z", "a number of seconds, or a date"),
        (Made(Number(), Resources.of), 5, "a mapping of names to amounts, not 5"),
        (Made(Number(), Resources.of), "5", "a number from 0 is needed"),
        (AnyNames(Number()), {1: 2}, "a name is text, not 1"),
        (Number(1e-6, 1e6), 2e6, "a number from 0.000001 to 1,000,000 is needed"),
        (Number(), 1e13, "a number from 0 to 1e+12 is needed"),
    ],
)
def test_a_form_says_what_it_needs(form, value, needed):
    faults = FaultList()
    assert form.read(located(value), "it", faults) is not None
    ((_, text),) = faults.findings
    assert needed in text


def test_what_is_made_of_a_form_is_read():
    faults = FaultList()
    made = Made(AnyNames(Number(), plain=True), Resources.of)
    assert made.read(located({"cpu": 2}), "it", faults) == Resources(cpu=2)
    assert Text(is_blank=True).read(located(" "), "it", faults) == " "
    assert Moment().read(located(0), "it", faults) == 0
    assert not faults
    assert made.schema() == made.form.schema()


def test_what_has_no_value_may_count_as_not_said():
    faults = FaultList()
    document = located({"key": None, "code": 1})
    entry = DocumentOf(Lock, nulls=True).read(document, "", faults)
    assert (dict(entry.values), list(entry.nodes)) == ({"code": 1}, ["code"])
    DocumentOf(Lock).read(document, "", faults)
    assert faults.findings == (("key", "a text is needed, not nothing"),)


@attrs.frozen
class Door:
    """
    A door.

    Attributes:
        opens: When it does.
        lock: What opens it.
    """

    opens: object = attrs.field(default=None, metadata=may_be(Moment()))
    lock: object = attrs.field(
        default=None, metadata=may_be(Tagged("kind", {"lock": Lock, "wheel": Wheel}))
    )


def test_a_mapping_says_of_which_kind_it_is():
    faults = FaultList()
    door = {"opens": "2030-01-31T12:00:00+00:00", "lock": {"kind": "lock", "code": 3}}
    entry = DocumentOf(Door).read(located(door), "", faults)
    assert not faults
    assert entry.get("lock") == Lock(code=3)
    assert entry.get("opens").year == 2030
    jsonschema.validate(door, DocumentOf(Door).schema())
    door = {"opens": "2030-31-31T12:00:00+00:00", "lock": {"kind": "whel", "code": 3}}
    DocumentOf(Door).read(located(door), "", faults)
    assert [path for path, _ in faults.findings] == ["opens", "lock.kind"]
    assert "did you mean 'wheel'?" in faults.findings[1][1]
    faults = FaultList()
    DocumentOf(Door).read(located({"opens": "soon", "lock": {"code": 3}}), "", faults)
    assert [path for path, _ in faults.findings] == ["opens", "lock.kind"]


def test_a_key_says_what_it_is():
    key = keys_of(Cart)["max_load"]
    assert (key.field, key.text, key.default) == ("load", "What it may carry.", 0)
    assert keys_of(Cart)["name"].is_needed


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 120)
    | st.sampled_from(("", "one", "a/b", "red", "none", "10MB")),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from((*keys_of(Cart), *keys_of(Wheel), "diameter", "x")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from((*keys_of(Cart), "x")), VALUES))
def test_what_is_read_fits_the_schema(document):
    """A document without faults is one by the schema, but for what is null."""
    faults = FaultList()
    CART.read(located(document), "", faults)
    if not faults and None not in document.values():
        jsonschema.validate(document, CART.schema())


def test_the_schema_of_a_suite_is_a_schema():
    schema = CONFIGURATION.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    suite = {"orchestrator": {"task_definitions": {"unit_tests": [{"id": "A"}]}}}
    jsonschema.validate(suite, schema)
    suite["orchestrator"]["task_definitions"]["unit_tests"][0]["shards"] = 0
    with pytest.raises(jsonschema.ValidationError, match="minimum"):
        jsonschema.validate(suite, schema)
