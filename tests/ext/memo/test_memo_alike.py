"""No two different calls have one result, and like calls have one: by any value."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
import time
from itertools import combinations, product
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings, strategies as st
from tests.ext.memo.alike import build, same
from tests.house.tools.examples import examples

from taskorch import Task, TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.events import ResultRemembered
from taskorch.model import Cache
from taskorch.testing import Simulation

SMALL = range(4)
WORDS = ["a", "b", "ab", ""]
PLAIN = [
    *SMALL,
    *WORDS,
    *(True, False, None, ..., 1.0, 0.0, -0.0, float("nan"), 1j, 2**80),
    *("a\0b", "as1:b", "\ud800", b"", "1"),
]


def of(name, *parts):
    """Recipes of one kind, all of which are different."""
    return [(name, *each) for each in product(*parts)]


def several(name, parts):
    return [recipe for size in range(3) for recipe in of(name, *[parts] * size)]


def rising(name, *first):
    """Of numbers that rise, so that no two are alike turned round."""
    many = [each for size in (2, 3) for each in combinations(SMALL, size)]
    return [(name, *one, *each) for one in product(*first) for each in many]


KINDS = [
    of("plain", PLAIN),
    of("bytes", WORDS[:-1]),
    of("bytearray", WORDS),
    of("whole", SMALL),
    of("texts", WORDS, SMALL),
    of("dataclass", SMALL),
    of("undecorated", SMALL, SMALL),
    of("attrs undecorated", SMALL, SMALL),
    of("init", SMALL, SMALL),
    of("config", SMALL, WORDS),
    of("point", SMALL, WORDS),
    of("slots", SMALL),
    of("hiding", SMALL),
    of("flags", [0, 2, 4, 6, 8, 16]),
    of("colour", [1, 2]),
    of("other", [1, 2]),
    of("error", WORDS),
    of("late", [24, 25], [0, 1]),
    of("zoned", ["Europe/Berlin", "Europe/Paris", "UTC"]),
    of("offset", range(1, 4)),
    of("utc"),
    of("delta", SMALL),
    of("decimal", ["1", "1.0", "1.00", "1E+1", "10", "NaN", "-0"]),
    of("fraction", [1], range(1, 4)),
    of("path", ["a", "b", "a/b"]),
    of("windows", ["a", "b", "a/b"]),
    of("range", range(1, 4)),
    of("slice", SMALL),
    of("pattern", ["a", "b"], [0, 2]),
    of("partial", range(2, 4)),
    of("partial", range(2, 4), SMALL),
    of("partial by name", SMALL),
    of("upper", WORDS),
    of("get", SMALL),
    of("findall", WORDS),
    several("index", SMALL),
    of("method", SMALL),
    of("closure", SMALL),
    of("default", SMALL),
    of("keyword", SMALL),
    of("class", SMALL),
    of("class", [("list", 1), ("list", 2)]),
    of("through class", SMALL),
    of("lambda", ["1", "2", "1.0", "'a'"]),
    of("type", ["int", "Base", "Slots"]),
    of("function", ["len", "noted", "sub"]),
    rising("array", ["i4", ">i4", "i8", "f4", "f8"]),
    rising("rows", ["i4"]),
    rising("columns", ["i4"]),
    of("array", ["i4"], [0], [1], [0], [1]),
    of("masked", ["00", "01", "11"], SMALL, SMALL),
    rising("matrix"),
    several("objects", SMALL),
    of("number", ["i4", "f4", "f8", "u1", "?"], [1]),
    of("fields", ["a", "c"]),
    several("list", SMALL),
    several("tuple", SMALL),
    several("dict", SMALL),
    several("ordered", SMALL),
    of("backwards", SMALL, SMALL),
    several("defaultdict", SMALL),
    several("defaultset", SMALL),
    several("deque", SMALL),
    several("bounded", SMALL),
    *(
        [(name, *each) for n in range(4) for each in combinations(WORDS, n)]
        for name in ("set", "frozenset")
    ),
    of("list", [("list", 1), ("list", 2)], [("list", 1), 1, 2, ("list",)]),
    of("list", [("list", 1, 1), ("list", 1, 2), ("list", 1, ("list", 1))]),
    of("list", ["a", "ab"], ["c", "bc"]),
]
LEAVES = st.sampled_from(KINDS).flatmap(st.sampled_from)


def deeper(inner):
    return st.one_of(
        *(
            st.lists(inner, max_size=3).map(lambda items, name=name: (name, *items))
            for name in ("list", "tuple", "dict", "defaultdict", "deque", "bounded")
        ),
        *(
            st.tuples(st.just(name), inner)
            for name in (
                *("dataclass", "attrs", "namespace", "closure", "default"),
                *("keyword", "class", "through class"),
            )
        ),
    )


RECIPES = st.recursive(LEAVES, deeper, max_leaves=4)


@st.composite
def near(draw):
    """Two values that differ in one place, however deep."""
    kind = st.sampled_from(draw(st.sampled_from(KINDS)))
    one, other = draw(kind), draw(kind)
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
    by_key, by_recipe = {}, {}
    for recipe, key in zip(map(repr, recipes), keys, strict=False):
        assert by_key.setdefault(key, recipe) == recipe
        assert by_recipe.setdefault(recipe, key) == key


def test_values_of_each_kind_have_different_keys():
    check_apart([recipe for kind in KINDS for recipe in kind])


@settings(max_examples=examples(4), deadline=None)
@given(MANY)
def test_different_values_have_different_keys(recipes):
    check_apart(recipes)


@pytest.mark.slow("ten thousand random pairs")
@settings(max_examples=examples(60), deadline=None)
@given(MANY)
def test_ten_thousand_pairs_of_different_values_have_different_keys(recipes):
    # 190 pairs each.
    check_apart(recipes)


def positional(a, /, b=1, *rest, c=2, **more):
    return a, b, rest, c, more


PARTS = st.dictionaries(
    st.sampled_from(["a", "c", "x", "rest", "more", "*rest", "**a", "(function)"]),
    st.sampled_from(SMALL),
    max_size=3,
)


@settings(max_examples=examples(40), deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from(SMALL), min_size=1, max_size=4), PARTS),
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


@pytest.mark.slow("two processes")
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
            [sys.executable, "-m", "tests.ext.memo.alike"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[3],
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


def test_lists_of_a_module_are_not_looked_at(loaded):
    reading = ("LIMIT = 10", "LIMIT = [10]"), ("LIMIT)", "LIMIT[0])")
    work = loaded(*reading)
    other = loaded(*reading, ("[10]", "[9]"))
    (first, second, third) = keys_of(
        (work, (1,), {}), (other, (1,), {}), (other, (2,), {})
    )
    assert first == second != third


def test_a_function_that_leads_to_too_many_needs_a_version():
    scope = {}
    for number in range(2_100):
        exec(f"def f{number}(x):\n    return f{number + 1}(x)", scope)
    scope["f2100"] = abs
    with TaskOrchestrator() as orch:
        error = orch.options(cache=True).submit(scope["f0"], 1).exception()
        assert "more than 2,000 functions" in str(error)
        assert 'Cache(version="1")' in str(error)
        assert keys_of((scope["f2000"], (1,), {})) != keys_of(
            (scope["f2001"], (1,), {})
        )


def test_an_age_goes_on_in_the_next_incarnation(tmp_path):
    answers = []

    def incarnation(expires):
        with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
            cache = Cache(expires=expires)
            handle = orch.options(cache=cache, id=f"t{len(answers)}").submit(same, 1)
            handle.result()
            answers.append(orch.explain(handle.task_id).cache.partition(":")[0])

    for expires in (3600, 3600, 0.01, 3600):
        incarnation(expires)
        time.sleep(0.02)
    assert answers == ["miss", "hit", "miss", "hit"]


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


def counting(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        return len(args), fn(*args, **kwargs)

    return wrapper


@counting
def counted(x):
    return x


def test_what_differs_is_named_if_it_is_no_argument():
    with TaskOrchestrator() as orch:

        def explained(name, cache, fn, *args, **kwargs):
            done = orch.options(cache=cache, id=name, type="t")
            done.submit(fn, *args, **kwargs).result()
            return orch.explain(name).cache

        explained("a", Cache(), counted, 1)
        # What wraps a function sees how it is called.
        reason = explained("b", Cache(), counted, x=1)
        assert reason == "miss: it is called in another way than a"
        assert orch.handle("b").result() == (0, 1)
        explained("c", Cache(key="1"), same, 1)
        reason = explained("d", Cache(key="2"), same, 1)
        assert reason == "miss: the key of its Cache is not that of c"


def test_what_is_ignored_must_be_an_argument():
    with TaskOrchestrator() as orch:
        ignored = orch.options(cache=Cache(ignore={"verbos"}))
        error = ignored.submit(positional_only_verbose, 1).exception()
    assert isinstance(error, InvalidTaskError)
    assert "did you mean 'verbose'?" in str(error)


def positional_only_verbose(x, /, verbose=False):
    return x
