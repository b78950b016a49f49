"""No two different calls have one result, and like calls have one: by any value."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from itertools import combinations
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.integration.alike import build, same

from taskorch import Task, TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.events import ResultRemembered
from taskorch.model import Cache
from taskorch.testing import Simulation

SMALL = st.integers(0, 3)
WORDS = st.sampled_from(["a", "b", "ab", ""])
PLAIN = st.one_of(
    SMALL,
    WORDS,
    st.sampled_from([True, False, None, ..., 1.0, 0.0, -0.0, float("nan"), 1j, 2**80]),
    st.sampled_from(["a\0b", "as1:b", "\ud800", b"", b"a"]),
).map(lambda value: ("plain", value))


def of(name, *parts):
    return st.tuples(st.just(name), *parts)


def several(name, parts, **options):
    return st.lists(parts, max_size=3, **options).map(lambda items: (name, *items))


def distinct(name, parts):
    return st.lists(parts, min_size=2, max_size=3, unique=True).map(
        lambda items: (name, *sorted(items))
    )


LEAVES = st.one_of(
    PLAIN,
    of("bytes", WORDS),
    of("bytearray", WORDS),
    of("whole", SMALL),
    of("texts", WORDS, SMALL),
    of("undecorated", SMALL, SMALL),
    of("attrs undecorated", SMALL, SMALL),
    of("init", SMALL, SMALL),
    of("config", SMALL, WORDS),
    of("point", SMALL, WORDS),
    of("slots", SMALL),
    of("hiding", SMALL),
    of("flags", st.sampled_from([0, 2, 4, 6, 8, 16])),
    of("colour", st.sampled_from([1, 2])),
    of("other", st.sampled_from([1, 2])),
    of("error", WORDS),
    of("late", st.sampled_from([24, 25]), st.sampled_from([0, 1])),
    of("zoned", st.sampled_from(["Europe/Berlin", "Europe/Paris", "UTC"])),
    of("offset", st.integers(1, 4)),
    of("utc"),
    of("delta", SMALL),
    of("decimal", st.sampled_from(["1", "1.0", "1.00", "1E+1", "10", "NaN", "-0"])),
    of("fraction", st.just(1), st.integers(1, 4)),
    of("path", st.sampled_from(["a", "b", "a/b"])),
    of("windows", st.sampled_from(["a", "b", "a/b"])),
    of("range", st.integers(1, 4)),
    of("slice", SMALL),
    of("pattern", st.sampled_from(["a", "b"]), st.sampled_from([0, 2])),
    of("partial", st.integers(2, 4)),
    of("partial", st.integers(2, 4), SMALL),
    of("partial by name", SMALL),
    of("upper", WORDS),
    of("get", SMALL),
    of("findall", WORDS),
    several("index", SMALL),
    of("method", SMALL),
    of("lambda", st.sampled_from(["1", "2", "1.0", "'a'"])),
    of("type", st.sampled_from(["int", "Base", "Slots"])),
    of("function", st.sampled_from(["len", "noted", "sub"])),
    distinct("array", SMALL).flatmap(
        lambda recipe: st.sampled_from(["i4", ">i4", "i8", "f4", "f8"]).map(
            lambda dtype: ("array", dtype, *recipe[1:])
        )
    ),
    distinct("rows", SMALL).map(lambda recipe: ("rows", "i4", *recipe[1:])),
    distinct("columns", SMALL).map(lambda recipe: ("columns", "i4", *recipe[1:])),
    st.tuples(st.sampled_from(["00", "01", "11"]), SMALL, SMALL).map(
        lambda parts: ("masked", *parts)
    ),
    distinct("matrix", SMALL),
    several("objects", SMALL),
    of("number", st.sampled_from(["i4", "f4", "f8", "u1", "?"]), st.just(1)),
    of("fields", st.sampled_from(["a", "c"])),
)


def deeper(inner):
    return st.one_of(
        several("list", inner),
        several("tuple", inner),
        several("dict", inner),
        several("ordered", inner),
        st.lists(inner, min_size=2, max_size=3).map(lambda i: ("backwards", *i)),
        several("defaultdict", inner),
        several("defaultset", inner),
        several("deque", inner),
        several("bounded", inner),
        st.lists(WORDS, max_size=3, unique=True).map(lambda i: ("set", *sorted(i))),
        st.lists(WORDS, max_size=3, unique=True).map(
            lambda i: ("frozenset", *sorted(i))
        ),
        of("dataclass", inner),
        of("attrs", inner),
        of("namespace", inner),
        of("closure", inner),
        of("default", inner),
        of("keyword", inner),
        of("class", inner),
        of("through class", inner),
    )


RECIPES = st.recursive(LEAVES, deeper, max_leaves=4)


@st.composite
def near(draw):
    """Two values that differ in one place, however deep."""
    one, other = draw(LEAVES), draw(LEAVES)
    for _ in range(draw(st.integers(0, 2))):
        name = draw(
            st.sampled_from(["list", "dataclass", "closure", "default", "class"])
        )
        one, other = (name, one), (name, other)
    return [one, other]


MANY = st.tuples(
    st.lists(near(), min_size=8, max_size=8), st.lists(RECIPES, min_size=4, max_size=4)
).map(lambda both: [recipe for pair in both[0] for recipe in pair] + both[1])


def keys_of(*calls):
    """What each call is remembered by: its function, arguments, and those by name."""
    sim = Simulation()
    by_task = {}
    for number, (fn, args, kwargs) in enumerate(calls):
        # Each forgets at once: all are made.
        task = Task.call(
            fn,
            *args,
            kwargs=kwargs,
            id=f"t{number}",
            type="t",
            cache=Cache(expires=1e-9),
        )
        sim.at(number + 1, lambda task=task: sim.submit_task(task))
    sim.run()
    for event in sim.events:
        if isinstance(event, ResultRemembered):
            by_task[event.task_id] = event.key
    return [by_task.get(f"t{number}") for number in range(len(calls))]


def check_apart(recipes):
    calls = [(same, (build(recipe),), {}) for recipe in recipes + recipes]
    keys = keys_of(*calls)
    assert None not in keys
    # Made anew it is alike.
    assert keys[: len(recipes)] == keys[len(recipes) :]
    for (one, key), (other, other_key) in combinations(
        zip(recipes, keys, strict=False), 2
    ):
        assert (repr(one) == repr(other)) == (key == other_key), (one, other)


@settings(max_examples=4, deadline=None)
@given(MANY)
def test_different_values_have_different_keys(recipes):
    check_apart(recipes)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(MANY)
def test_ten_thousand_pairs_of_different_values_have_different_keys(recipes):
    # 190 pairs each.
    check_apart(recipes)


def positional(a, /, b=1, *rest, c=2, **more):
    return a, b, rest, c, more


PARTS = st.dictionaries(
    st.sampled_from(["a", "c", "x", "rest", "more", "*rest", "**a", "(function)"]),
    SMALL,
    max_size=3,
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(SMALL, min_size=1, max_size=4), PARTS),
        min_size=2,
        max_size=12,
    )
)
def test_different_arguments_have_different_keys(drawn):
    keys = keys_of(*((positional, args, kwargs) for args, kwargs in drawn))
    results = [positional(*args, **kwargs) for args, kwargs in drawn]
    for (one, key), (other, other_key) in combinations(
        zip(results, keys, strict=True), 2
    ):
        assert (one == other) == (key == other_key), (one, other)


def test_a_payload_is_not_that_of_its_name():
    payloads = [
        {"payload": 1},
        1,
        None,
        {},
        [["payload", 1]],
        {"payload": {"payload": 1}},
    ]
    with TaskOrchestrator() as orch:

        @orch.agent("ada", capabilities=["render"])
        def ada(task, context):
            return repr(task.payload)

        for _ in range(2):
            for payload in payloads:
                done = orch.submit_task(Task("render", payload, cache=True))
                assert done.result() == repr(payload)


def test_other_processes_have_the_same_keys(tmp_path):
    recipes = [
        ("set", *map(str, range(40))),
        ("frozenset", "a", "b"),
        ("dict", ("closure", ("set", "a", "b", "c")), ("class", ("plain", 1))),
        ("through class", ("frozenset", "x", "y")),
        ("array", "f8", 1, 2),
        ("zoned", "Europe/Berlin"),
        ("function", "noted"),
        ("texts", "a", 1),
        ("colour", 1),
    ]
    text = "\n".join(repr([recipe]) for recipe in recipes)
    printed = set()
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-m", "tests.integration.alike"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert len(run.stdout.split()) == len(recipes)
        printed.add(run.stdout)
    assert len(printed) == 1


FLOW = """
import helpers
from helpers import scale

LIMIT = 10

class Rule:
    def apply(self, x):
        return x + 1

def work(x):
    return min(scale(x) + helpers.add(x) + Rule().apply(x), LIMIT)
"""
HELPERS = """
import functools

FACTOR = 1

def scale(x):
    return inner(x)

@functools.lru_cache
def inner(x):
    return x * FACTOR if x else scale(x)

def add(x):
    return x
"""


@pytest.fixture
def loaded(monkeypatch):
    """The function of the two modules as they are once some text is replaced."""

    def load(*changes):
        for name, source in (("helpers", HELPERS), ("flow", FLOW)):
            text = source
            for old, new in changes:
                text = text.replace(old, new)
            module = ModuleType(name)
            monkeypatch.setitem(sys.modules, name, module)
            exec(text, vars(module))
        return sys.modules["flow"].work

    return load


CHANGES = [
    ("helpers.add(x) +", "helpers.add(x) + 1 +"),
    ("return x * FACTOR", "return x * FACTOR + 1"),
    ("FACTOR = 1", "FACTOR = 2"),
    ("def add(x):\n    return x", "def add(x):\n    return x + 1"),
    ("return x + 1", "return x + 2"),
    ("LIMIT = 10", "LIMIT = 2"),
]


def test_what_a_function_reads_of_ones_own_is_a_part_of_it(loaded):
    (first,) = keys_of((loaded(), (1,), {}))
    # A comment makes no difference.
    (second,) = keys_of((loaded(("LIMIT = 10", "# So far.\nLIMIT = 10")), (1,), {}))
    assert first == second
    keys = {first}
    for change in CHANGES:
        work = loaded(change)
        assert work(1) != loaded()(1), change
        keys.update(keys_of((work, (1,), {})))
    assert len(keys) == 1 + len(CHANGES)


SCRIPT = """
from pathlib import Path
from taskorch import TaskOrchestrator

def work(x):
    return x + 3

if __name__ == "__main__":
    # Somebody edits the file while it runs.
    file = Path(__file__)
    file.write_text(file.read_text().replace("x + 3", "x + 102"))
    with TaskOrchestrator(journal="runs.db") as orch:
        print(orch.options(cache=True).submit(work, 1).result())
"""


def test_code_is_what_was_loaded_whatever_the_file_says_since(tmp_path):
    (tmp_path / "flow.py").write_text(SCRIPT)
    printed = [
        subprocess.run(
            [sys.executable, "-B", "flow.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(3)
    ]
    assert printed == ["4\n", "103\n", "103\n"]


def test_what_has_no_description_is_refused_by_name_and_a_key_stands_for_it():
    class Holds:
        def __init__(self):
            self.lock = threading.Lock()

    def reading(source):
        return source

    with TaskOrchestrator() as orch:
        error = orch.options(cache=True).submit(reading, Holds()).exception()
        assert isinstance(error, InvalidTaskError)
        assert "its argument 'source'" in str(error)
        assert "key=" in str(error)
        answers = []
        for key in ("a", "a", "b"):
            done = orch.options(cache=Cache(key=key)).submit(reading, Holds())
            answers.append(done.result())
        assert answers[0] is answers[1] is not answers[2]
        error = orch.options(cache=True).submit(threading.Lock().locked).exception()
        assert "key=" in str(error)


def test_what_is_ignored_must_be_an_argument():
    with TaskOrchestrator() as orch:
        ignored = orch.options(cache=Cache(ignore={"verbos"}))
        error = ignored.submit(positional_only_verbose, 1).exception()
    assert isinstance(error, InvalidTaskError)
    assert "did you mean 'verbose'?" in str(error)


def positional_only_verbose(x, /, verbose=False):
    return x
