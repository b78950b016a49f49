"""
Documents of extensions: kept as events, found by a later incarnation, and forgotten.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from shutil import copytree

import pytest
from hypothesis import example, given, settings, strategies as st
from tests.api.tools import PATIENCE
from tests.house.own_journal import LinesJournal
from tests.house.tools.examples import examples

from taskorch import Task, TaskOrchestrator
from taskorch.api.journal import MemoryJournal
from taskorch.errors import InvalidTaskError
from taskorch.events import ExtensionKept
from taskorch.ext.command_line import main
from taskorch.ext.views import JournalReader

NAMES = st.sampled_from(["rates", "my.waivers"])
KEYS = st.sampled_from(["a", "b", "c d", "ключ"])
VALUES = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Half of a pair is a text of Python's, too, and JSON escapes it.
    | st.text(st.characters(codec=None), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
DOCUMENTS = st.none() | VALUES
WRITES = st.tuples(NAMES, st.dictionaries(KEYS, DOCUMENTS, max_size=3))
STEPS = st.lists(WRITES | st.sampled_from(["life", "kill", "prune"]), max_size=8)


def texts(documents):
    """Each extension's documents in their order, as texts: 1, 1.0 and True differ."""
    return {
        name: [(key, json.dumps(value)) for key, value in held.items()]
        for name, held in documents.items()
        if held
    }


def all_of(orch):
    return texts({name: dict(orch.kept(name)) for name in ("rates", "my.waivers")})


def write(model, name, changes):
    """What a mapping whose latest keys come last would do."""
    held = model.setdefault(name, {})
    for key, document in changes.items():
        if document is None:
            held.pop(key, None)
        elif key not in held or json.dumps(held[key]) != json.dumps(document):
            held.pop(key, None)
            held[key] = document


def events_kept(path):
    events = JournalReader(path).happened()
    return [event for event in events if isinstance(event, ExtensionKept)]


@settings(max_examples=examples(5))
@example(
    steps=[("rates", {"a": 1, "b": 2}), ("rates", {"a": 3}), "kill", "prune", "kill"]
)
@given(steps=STEPS)
def test_what_was_written_last_is_found_whatever_happens(steps, tmp_path_factory):
    """Incarnations, kills, snapshots and retention in any order: they are those written."""
    path, model = tmp_path_factory.mktemp("kept") / "runs.db", {}
    orch, number = TaskOrchestrator(journal=path), 0
    for step in [*steps, "kill", "life"]:
        if step == "life":
            orch.shutdown()
            orch = TaskOrchestrator(journal=path)
        elif step == "kill":
            # What a kill would leave, at this moment.
            folder = tmp_path_factory.mktemp("killed")
            copytree(path.parent, folder, dirs_exist_ok=True)
            orch.shutdown()
            path = folder / "runs.db"
            orch = TaskOrchestrator(journal=path)
        elif step == "prune":
            number += 1
            orch.start()
            orch.submit_task(Task.call(len, "x", id=f"t{number}")).result(PATIENCE)
            # That takes a snapshot, too.
            assert orch.prune(older_than=0).tasks
        else:
            name, changes = step
            orch.kept(name).update(changes)
            write(model, name, changes)
        assert all_of(orch) == texts(model)
    orch.shutdown()
    assert texts(JournalReader(path).kept()) == texts(model)


def test_a_mapping_like_any_other(tmp_path):
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        rates = orch.kept("rates")
        assert (dict(rates), len(rates), rates.get("a"), "a" in rates) == (
            {},
            0,
            None,
            0,
        )
        rates["a"] = {"cpu": [1, 2.5, None, True, (3,)]}
        assert rates["a"] == {"cpu": [1, 2.5, None, True, [3]]}
        # What was read is the reader's own.
        rates["a"]["cpu"].clear()
        assert rates["a"]["cpu"]
        rates.update([("b", 2)], c=3)
        assert list(rates) == ["a", "b", "c"]
        # Who asks for the same name has the same; another name is another's.
        assert dict(orch.kept("rates")) == dict(rates)
        assert not orch.kept("other")
        del rates["b"]
        rates["c"] = None
        assert rates.pop("a")
        for key in ("a", "b", "c"):
            with pytest.raises(KeyError):
                rates[key]
            with pytest.raises(KeyError):
                del rates[key]
        assert "0 documents" in repr(rates)


def test_the_same_document_again_is_no_event(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        for _ in range(3):
            orch.kept("rates")["a"] = {"cpu": 1}
            orch.kept("rates")["b"] = None
    assert [(event.key, event.document) for event in events_kept(path)] == [
        ("a", '{"cpu":1}')
    ]


def test_all_of_an_update_is_kept_or_nothing(tmp_path):
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        rates = orch.kept("rates")
        for wrong in ({"a": 1, "b": math.nan}, {"a": 1, " b": 2}):
            with pytest.raises(InvalidTaskError):
                rates.update(wrong)
        assert not rates


itself: list[object] = []
itself.append(itself)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"a": [0, {"b": math.nan}]}, r"rates\['k'\]\['a'\]\[1\]\['b'\] is nan"),
        ({"a": -math.inf}, r"\['a'\] is -inf: JSON has no such number"),
        ({1: 2}, r"rates\['k'\] has the key 1: in JSON a key is a text"),
        ([b"x"], r"rates\['k'\]\[0\] is of type bytes"),
        ({"s": {1}}, r"\['s'\] is of type set"),
        (object(), "is of type object, which JSON cannot say"),
        (Counter("aab"), "is of type Counter"),
        (itself, "nested more than 100 deep, or contains itself"),
        ([10**5_000], "cannot be written as JSON"),
        ("x" * 10_000_000, "10,000,002 characters as JSON, and 1,000,000 are the most"),
    ],
)
def test_a_document_that_json_cannot_say_is_refused_with_where(document, words):
    with TaskOrchestrator() as orch:
        with pytest.raises(InvalidTaskError, match=words):
            orch.kept("rates")["k"] = document
        assert not orch.kept("rates")


@pytest.mark.parametrize("name", ["", " a", "a\n", 7, None, "x" * 201])
def test_what_is_no_name_is_refused(name):
    with TaskOrchestrator() as orch:
        with pytest.raises(InvalidTaskError, match="extension: a name"):
            orch.kept(name)
        with pytest.raises(InvalidTaskError, match="a key is a text"):
            orch.kept("rates")[name] = 1


@pytest.mark.slow("a hundred thousand documents")
def test_there_may_be_a_hundred_thousand_documents_and_no_more(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        many = orch.kept("many")
        many.update({f"k{n}": n for n in range(100_000)})
        with pytest.raises(InvalidTaskError, match="100,000 are the most"):
            many["more"] = 1
        many["k7"] = "other"
        many["k8"] = None
        many["more"] = 1
        # Those of others are not counted.
        orch.kept("other")["a"] = 1
    with TaskOrchestrator(journal=path) as orch:
        many = orch.kept("many")
        assert (len(many), many["k7"], many["k99999"]) == (100_000, "other", 99_999)


def test_retention_keeps_the_latest_document_of_each_key(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        rates = orch.kept("rates")
        for number in range(50):
            rates.update(a=number, b=-number, dropped=number)
        del rates["dropped"]
        orch.submit_task(Task.call(len, "x")).result(PATIENCE)
        rates["a"] = "late"
        assert orch.prune(older_than=0).tasks == 1
        left = [(event.key, event.document) for event in events_kept(path)]
        # What is younger than the task stays, with what it replaced by then.
        assert left == [("b", "-49"), ("a", '"late"')]
    with TaskOrchestrator(journal=path) as orch:
        assert dict(orch.kept("rates")) == {"b": -49, "a": "late"}


@pytest.mark.parametrize("journal", [None, "memory", "lines", "sqlite"])
def test_every_journal_and_none(journal, tmp_path):
    made = {
        None: lambda: None,
        "memory": lambda: MemoryJournal(keep_events=True),
        "lines": lambda: LinesJournal(tmp_path / "lines"),
        "sqlite": lambda: tmp_path / "runs.db",
    }[journal]
    with TaskOrchestrator(journal=made()) as orch:
        orch.kept("rates").update({"a": 1, "ключ": "é\ud800"})
        assert orch.kept("rates")["ключ"] == "é\ud800"
    if journal in ("lines", "sqlite"):
        with TaskOrchestrator(journal=made()) as orch:
            assert dict(orch.kept("rates")) == {"a": 1, "ключ": "é\ud800"}


def test_documents_of_an_extension_that_is_gone_are_named_and_can_be_dropped(
    tmp_path, capsys
):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.kept("rates").update(a=1, b=2)
        orch.kept("gone")["a"] = 1
    assert main(["doctor", str(path)]) == 0
    said = capsys.readouterr().out
    assert "documents: gone 1, rates 2" in said
    assert "orch.kept('gone').clear()" in said
    with TaskOrchestrator(journal=path) as orch:
        orch.kept("gone").clear()
    assert JournalReader(path).kept() == {"rates": {"a": 1, "b": 2}}
