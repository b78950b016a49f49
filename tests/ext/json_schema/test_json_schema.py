"""JsonSchemaValidator."""

from __future__ import annotations

import copy
import subprocess
import sys
import urllib.request
from types import MappingProxyType

import jsonschema
import pytest
from hypothesis import given, strategies as st
from tests.core.policies.fakes import FakeContext
from tests.core.policies.test_imports import loaded_by

from taskorch.errors import InvalidTaskError
from taskorch.model import Program, Task
from taskorch.policies import JsonSchemaValidator
from taskorch.protocols import Finding, Validator

ORDER = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "items": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/item"}},
    },
    "required": ["id", "items"],
    "additionalProperties": False,
    "$defs": {
        "item": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 8},
                "colour": {"enum": ["red", "blue"]},
            },
            "required": ["name"],
        }
    },
}

atoms = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
)
json_values = st.recursive(
    atoms, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3)
)
#: Payloads that are sometimes nearly right, so that every fault is met.
payloads = json_values | st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers(-1, 2) | atoms,
        "items": st.lists(
            st.fixed_dictionaries(
                {}, optional={"name": st.text() | atoms, "colour": st.just("red")}
            ),
            max_size=3,
        ),
        "x": atoms,
    },
)


def verdict(payload, schema=ORDER, **options):
    validator = JsonSchemaValidator({"t": schema}, **options)
    return validator.validate(Task("t", payload), FakeContext())


def findings(payload, schema=ORDER):
    return [(f.path, f.message) for f in verdict(payload, schema).findings]


def message(payload, schema):
    ((path, text),) = findings(payload, schema)
    assert path == "payload"
    return text


def test_it_is_a_validator():
    """It has the methods of its protocol, and shows its types."""
    validator = JsonSchemaValidator({"a": True, "b": {}}, unknown="refuse")

    assert isinstance(validator, Validator)
    assert repr(validator) == "JsonSchemaValidator(['a', 'b'], unknown='refuse')"


def test_what_fits_is_accepted():
    """The verdict holds for this payload only."""
    answer = verdict({"id": 1, "items": [{"name": "nut", "colour": "red"}]})

    assert answer.accepted
    assert not answer.reusable


def test_every_fault_is_named_at_once_with_its_path():
    """All of them, in words that say what would be right."""
    payload = {
        "id": 0,
        "items": [{"name": "nut"}, {"colour": "green"}, {"name": 5}],
        "size": 3,
    }

    assert sorted(findings(payload)) == [
        ("payload.id", "at least 1 is needed, not 0"),
        ("payload.items[1].colour", "one of 'red', 'blue' is needed, not 'green'"),
        ("payload.items[1].name", "it is required, and missing"),
        ("payload.items[2].name", "text is needed, not 5"),
        ("payload.size", "it is not known here; the names known: id, items"),
    ]


def test_each_missing_name_is_a_finding_of_its_own():
    """Also where one name is the beginning of another."""
    schema = {"required": ["a", "a b", "a'b", "c"]}

    assert [path for path, _ in findings({"c": 1}, schema)] == [
        "payload.a",
        "payload['a b']",
        'payload["a\'b"]',
    ]


@pytest.mark.parametrize(
    ("schema", "payload", "text"),
    [
        ({"type": "string"}, 5, "text is needed, not 5"),
        (
            {"type": ["integer", "null"]},
            "x",
            "a whole number or null is needed, not 'x'",
        ),
        ({"type": "object"}, [], "an object is needed, not []"),
        ({"const": 3}, 4, "3 is needed, not 4"),
        ({"maximum": 3}, 4, "at most 3 is needed, not 4"),
        ({"exclusiveMinimum": 3}, 3, "more than 3 is needed, not 3"),
        ({"exclusiveMaximum": 3}, 3, "less than 3 is needed, not 3"),
        ({"multipleOf": 5}, 4, "a multiple of 5 is needed, not 4"),
        ({"pattern": "^a"}, "b", "what matches '^a' is needed, not 'b'"),
        ({"minLength": 3}, "ab", "at least 3 characters, not 2"),
        ({"maxItems": 1}, [1, 2], "at most 1 items, not 2"),
        ({"minProperties": 1}, {}, "at least 1 names, not 0"),
        ({"uniqueItems": True}, [1, 1], "no item may come twice"),
        (False, 1, "nothing is allowed here"),
        ({"not": {"const": 1}}, 1, "1 should not be valid under {'const': 1}"),
        (
            {"oneOf": [{"type": "integer"}, {"minimum": 0}]},
            3,
            "it must fit one only of 2 forms, and it fits more",
        ),
    ],
)
def test_messages_say_what_would_be_right(schema, payload, text):
    """In a few words, for the keywords that people use."""
    assert message(payload, schema) == text


def test_of_several_forms_the_nearest_is_explained():
    """The one that a value came closest to, with its path."""
    circle = {"properties": {"r": {"type": "number"}}, "required": ["r"]}
    schema = {"anyOf": [{"type": "object"} | circle, {"type": "string"}]}

    assert message({"r": "x"}, schema) == (
        "it fits none of 2 forms; of the nearest, payload.r: a number is needed, not 'x'"
    )


def test_messages_are_short_whatever_the_payload():
    """A long value is cut, ours and jsonschema's."""
    long = "x" * 10_000

    assert len(message(long, {"type": "integer"})) < 200
    assert len(message(long, {"not": {"type": "string"}})) < 400


@pytest.mark.parametrize(
    ("payload", "path", "text"),
    [
        ({"a": {1}}, "payload.a", "what JSON can say is needed, not set"),
        ([float("nan")], "payload[0]", "a finite number is needed, not nan"),
        ({"a": {5: 1}}, "payload.a", "a name is text, not 5"),
        (b"x", "payload", "what JSON can say is needed, not bytes"),
    ],
)
def test_what_json_cannot_say_is_a_finding(payload, path, text):
    """Whatever the schema; with its kind, and not its content."""
    assert findings(payload, True) == [(path, text)]


def test_a_call_is_not_json():
    """A type that has a schema has a payload to be checked by it."""
    validator = JsonSchemaValidator({"pow": {"type": "object"}})
    answer = validator.validate(Task.call(pow, 2, 3), FakeContext())

    assert answer.findings == (
        Finding("payload", "what JSON can say is needed, not Call"),
    )


def test_tuples_and_mappings_are_lists_and_objects():
    """They are written as such."""
    payload = MappingProxyType({"id": 1, "items": ({"name": "nut"},)})

    assert verdict(payload).accepted
    assert message((1, 1), {"uniqueItems": True}) == "no item may come twice"


def test_a_payload_that_is_nested_too_deep_is_a_finding():
    """Also one that holds itself, and one whose schema never ends."""
    ring = []
    ring.append(ring)

    assert [text for _, text in findings(ring, True)] == [
        "it is nested more than 50 levels deep"
    ]
    assert message(1, {"$ref": "#"}) == (
        "it is nested too deeply, or its schema refers to itself"
    )


@pytest.mark.parametrize(("levels", "fits"), [(1, True), (50, True), (51, False)])
def test_a_payload_may_be_nested_as_deep_as_is_said(levels, fits):
    payload = []
    for _ in range(levels - 1):
        payload = [payload]
    assert (findings(payload, True) == []) is fits


@pytest.mark.parametrize("schema", [{"type": "string"}, {"multipleOf": 0.5}])
def test_a_number_that_is_too_large_is_a_finding(schema):
    """Python refuses to show it, or to divide it; nothing breaks."""
    assert message(10**5000, schema).startswith("it cannot be checked: ")


def test_a_recursive_schema_is_followed_all_the_way_down():
    """As deep as a payload may be."""
    schema = {
        "anyOf": [
            {"type": "object", "properties": {"c": {"$ref": "#"}}},
            {"type": "integer"},
        ]
    }
    good, bad = 1, "x"
    for _ in range(50):
        good, bad = {"c": good}, {"c": bad}

    assert verdict(good, schema).accepted
    assert not verdict(bad, schema).accepted


def test_a_type_without_a_schema_is_accepted_for_all():
    """Whatever the payload, so it need not be asked again."""
    validator = JsonSchemaValidator({"t": ORDER})
    answer = validator.validate(Task("other", {1, 2}), FakeContext())

    assert answer.accepted
    assert answer.reusable


def test_a_type_without_a_schema_can_be_refused():
    """Calls and programs are left alone, for one payload at a time."""
    validator = JsonSchemaValidator({"b": True, "a": True}, unknown="refuse")
    answer = validator.validate(Task("c", 1), FakeContext())
    call = validator.validate(Task.call(pow, 2, 3), FakeContext())
    program = validator.validate(Task("x", Program(["true"])), FakeContext())

    assert answer.findings == (
        Finding("type", "'c' has no schema; the types that have: 'a', 'b'"),
    )
    assert call.accepted
    assert not call.reusable
    assert program.accepted


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (
            {"properties": {"a": {"type": "strin"}}},
            r"schemas\['t'\]\.properties\.a\.type: .*'strin'",
        ),
        ({"pattern": "("}, r"schemas\['t'\]\.pattern"),
        ({"minimum": "3"}, r"schemas\['t'\]\.minimum: a number is needed, not '3'"),
        (5, r"schemas\['t'\]: an object or true or false is needed"),
        ({"$schema": "urn:none"}, r"'urn:none' is no draft that is known"),
        ({"$schema": 5}, r"schemas\['t'\]\['\$schema'\]: 5 is no draft"),
        ({"enum": {1}}, r"schemas\['t'\]\.enum: what JSON can say is needed, not set"),
        ({"$ref": 5}, r"schemas\['t'\]\['\$ref'\]: text is needed, not 5"),
    ],
)
def test_a_bad_schema_is_refused_at_once(schema, text):
    """The type and the path are named."""
    with pytest.raises(InvalidTaskError, match=text):
        JsonSchemaValidator({"t": schema})


@pytest.mark.parametrize(
    "reference",
    [
        "https://example.com/x",
        "#/$defs/none",
        "other.json",
        "#none",
        "http://[x",
        "#/%",
    ],
)
def test_a_reference_that_leads_nowhere_is_refused_and_nothing_is_fetched(
    reference, monkeypatch
):
    """Wherever it stands, and before a payload meets it."""

    def fetched(*_, **__):
        raise AssertionError("fetched")

    monkeypatch.setattr(urllib.request, "urlopen", fetched)
    with pytest.raises(InvalidTaskError, match="leads to nothing in this schema"):
        JsonSchemaValidator({"t": {"properties": {"a": {"$ref": reference}}}})


def test_references_inside_and_to_the_drafts_are_followed():
    """By anchor, by id, and to the schema of schemas."""
    schema = {
        "$id": "https://example.com/root",
        "prefixItems": [
            {"$ref": "#num"},
            {"$ref": "text"},
            {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        ],
        "$defs": {
            "n": {"$anchor": "num", "type": "integer"},
            "t": {"$id": "text", "type": "string"},
        },
    }

    assert verdict([1, "x", {"type": "object"}], schema).accepted
    assert [path for path, _ in findings(["x", 1, {"minimum": "x"}], schema)] == [
        "payload[0]",
        "payload[1]",
        "payload[2].minimum",
    ]


def test_a_schema_may_be_any_mapping():
    """It is made plain, as a payload is."""
    schema = MappingProxyType({"enum": (1, 2)})

    assert verdict(1, schema).accepted
    assert not verdict(3, schema).accepted


def test_an_older_draft_is_followed_where_the_schema_names_it():
    """In draft 4, `exclusiveMinimum` is a flag."""
    schema = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "minimum": 3,
        "exclusiveMinimum": True,
    }

    assert not verdict(3, schema).accepted
    with pytest.raises(InvalidTaskError, match="exclusiveMinimum"):
        JsonSchemaValidator({"t": {"exclusiveMinimum": True}})


@pytest.mark.parametrize(
    "options", [{"schemas": ["t"]}, {"schemas": {}, "unknown": "ignore"}]
)
def test_options_of_another_form_are_refused(options):
    """Each says what it takes."""
    with pytest.raises(InvalidTaskError, match=r"schemas|unknown"):
        JsonSchemaValidator(**options)


@given(payloads)
def test_it_accepts_what_the_library_accepts_and_changes_nothing(payload):
    """Laws 2 and 3 hold, and our words lose no fault."""
    before = copy.deepcopy(payload)
    validator = JsonSchemaValidator({"t": ORDER})
    task = Task("t", payload)
    answer = validator.validate(task, FakeContext())

    assert answer == validator.validate(task, FakeContext())
    assert repr(payload) == repr(before)
    errors = list(jsonschema.Draft202012Validator(ORDER).iter_errors(payload))
    finite = "inf" not in repr(payload)
    assert answer.accepted == (finite and not errors)
    if finite:
        assert len(answer.findings) >= len(errors)


def test_later_changes_of_a_schema_count_for_nothing():
    """It is copied."""
    schema = {"type": "integer"}
    validator = JsonSchemaValidator({"t": schema})
    schema["type"] = "string"

    assert validator.validate(Task("t", 5), FakeContext()).accepted


def test_the_library_is_imported_when_a_schema_is_given():
    """And not by the class, nor by a validator without schemas."""
    code = "from taskorch.policies import JsonSchemaValidator as V; V({})"

    assert "jsonschema" not in loaded_by(code)
    assert "jsonschema" in loaded_by(code + "; V({'t': True})")


def test_without_the_library_the_error_says_how_to_get_it():
    """In the words of pip."""
    code = """if True:
        import sys
        sys.modules["jsonschema"] = None
        from taskorch.policies import JsonSchemaValidator
        try:
            JsonSchemaValidator({"t": True})
        except ImportError as error:
            print(error.name, error)
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )

    assert done.stdout == (
        "jsonschema JsonSchemaValidator needs jsonschema: "
        "pip install 'taskorch[schema]'\n"
    )


def test_without_the_library_it_says_what_to_install(monkeypatch):
    """It is an extra: whoever has not asked for it is told its name."""
    monkeypatch.setitem(sys.modules, "jsonschema", None)

    with pytest.raises(ImportError, match=r"taskorch\[schema\]") as caught:
        JsonSchemaValidator({"work": True})

    assert caught.value.name == "jsonschema"
