"""The tool that plants small faults tells truly which of them the tests notice."""

import ast
import dataclasses
import subprocess
import sys
import textwrap

import pytest
from tests.mutants.__main__ import Footprints, Helper, chosen, isolation
from tests.mutants.changes import LIBRARY as WHERE
from tests.mutants.changes import PARTS, ROOT, draw, known_equal, mutants_of

LIBRARY = """
    import functools
    import time

    TIMES = []


    def made_at_import():
        return 2 + 3


    FIVE = made_at_import()


    def larger(a, b=1):
        if a >= b:
            return a
        return b


    def count_down(n):
        while n > 0:
            n = n - 1
        return n


    def nap():
        time.sleep(0 / 2)


    class Thing:
        @functools.lru_cache
        def twice(self, n):
            def inner():
                return n * 2

            return inner()
"""
TESTS = """
    import pathlib
    import subprocess
    import sys

    import pytest
    from little import FIVE, Thing, count_down, larger, nap


    def test_larger():
        assert larger(1, 2) == larger(2, 1) == 2


    def test_default():
        assert larger(0) == 1


    def test_in_another_process():
        code = "import little; print(little.larger(2, 1))"
        command = [sys.executable, "-c", code]
        assert subprocess.run(command, capture_output=True).stdout == b"2\\n"


    def test_count_down():
        assert count_down(3) == 0


    def test_twice():
        assert Thing().twice(3) == 6


    def test_five():
        assert FIVE == 5


    @pytest.mark.parametrize("number", range(8))
    def test_nap(number):
        nap()


    def test_fails_anyway():
        assert larger(1, 2) == 3


    def test_passes_only_once():
        runs = pathlib.Path("runs")
        once, _ = not runs.exists(), runs.touch()
        assert larger(1, 1) == 1 and once
"""
CONFTEST = """
    from hypothesis import settings

    settings.register_profile("ci")
"""
NAPS = [f"nap[{number}]" for number in range(8)]
NAMES = ("larger", "default", "in_another_process", "count_down", "twice", "five")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A little project, a worker in it, and what its tests run."""
    pytest.importorskip("coverage")
    folder = tmp_path_factory.mktemp("project")
    for name, text in {
        "src/little.py": LIBRARY,
        "tests/test_little.py": TESTS,
        "tests/conftest.py": CONFTEST,
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    helper = Helper(folder, ["tests"])
    footprints = Footprints()
    footprints.add(helper.tell({"measure": helper.hear()}))
    yield folder, helper, footprints
    helper.end()


def named(*tests):
    return {f"tests/test_little.py::test_{name}" for name in tests}


def change(folder, before, after):
    """The one change of the little library that makes *before* into *after*."""
    (found,) = (
        mutant
        for mutant in mutants_of(folder / "src/little.py", folder)
        if before in mutant.before and after in mutant.after
    )
    return found


def attempt(project, mutant, tests=None, **other):
    _, helper, footprints = project
    given = sorted(tests or footprints.tests_for(mutant))
    order = {
        "mutant": dataclasses.asdict(mutant),
        "tests": [(name, footprints.seconds.get(name, 1)) for name in given],
        "alone": mutant.default,
        # A process that begins takes seconds on a busy machine; what hangs takes all.
        "slack": 25.0,
    }
    return helper.tell(order | other)


def test_it_is_known_which_tests_run_a_line_in_other_processes_too(project):
    folder, _, footprints = project
    tests = footprints.tests_for(change(folder, "a >= b", "a > b"))
    assert tests - named("passes_only_once") == named(
        "larger", "default", "in_another_process"
    )
    # What fails anyway says nothing, and what runs at import here is of no test.
    assert footprints.seconds.keys() - named("passes_only_once") == named(*NAMES, *NAPS)
    assert footprints.tests_for(change(folder, "2 + 3", "2 - 3")) == named(
        "in_another_process"
    )


@pytest.mark.parametrize(
    ("before", "after", "test", "how"),
    [
        ("return a", "None", "larger", "fails"),
        ("n = n - 1", "n + 1", "count_down", "hangs"),
        ("n * 2", "n // 2", "twice", "fails"),
        ("larger", "b=(2)", "default", "fails"),
    ],
)
def test_what_a_test_notices_is_told(project, before, after, test, how):
    mutant = change(project[0], before, after)
    waits = {"slack": 2.0} if how == "hangs" else {}
    answer = attempt(project, mutant, named(test), **waits)
    assert (answer["by"], answer["how"]) == (*named(test), how)


def test_what_another_process_imports_is_changed(project):
    mutant = change(project[0], "return a", "None")
    assert attempt(project, mutant, named("in_another_process"))["how"] == "fails"


def test_what_runs_at_import_is_tried_by_an_import(project):
    mutant = change(project[0], "2 + 3", "2 - 3")
    assert attempt(project, mutant, named("five"))["by"] is None
    assert attempt(project, mutant, named("five"), alone=True)["how"] == "fails"


def test_what_changes_nothing_is_not_noticed_and_all_is_as_it_was(project):
    source = (project[0] / "src/little.py").read_bytes()
    answer = attempt(project, change(project[0], "a >= b", "a > b"))
    assert answer["by"] is None or answer["by"] in named("passes_only_once")
    mutant = change(project[0], "a >= b", "a > b")
    answer = attempt(project, mutant, named("larger", "default"))
    assert (answer["by"], answer["ran"]) == (None, 2)
    assert (project[0] / "src/little.py").read_bytes() == source


def test_a_test_that_fails_without_the_change_too_has_noticed_nothing(project):
    mutant = change(project[0], "a >= b", "a > b")
    answer = attempt(project, mutant, named("fails_anyway"))
    assert answer["by"] is None
    assert "without the change" in answer["how"]


def test_the_others_are_asked_after_one_that_fails_without_the_change_too(project):
    mutant = change(project[0], "return a", "None")
    answer = attempt(project, mutant, named("default", "fails_anyway", "larger"))
    assert (answer["by"], answer["ran"]) == (*named("larger"), 3)


def test_nobody_waits_for_many_that_are_each_a_little_late(project):
    """Each has its slack, and all together have two."""
    mutant = change(project[0], "sleep(0", "(1) / 2")
    usual = dict.fromkeys(sorted(named(*NAPS)), 0.01)
    footprints = Footprints()
    footprints.add({"seconds": usual, "lines": {}})
    timed = (*project[:2], footprints)
    assert attempt(timed, mutant, usual, slack=1.5)["how"] == "hangs"
    assert attempt(timed, mutant, [*usual][:2], slack=1.5)["by"] is None


def test_the_nearest_are_the_first_then_the_fastest_within_their_time(project):
    footprints = Footprints()
    mutant = change(project[0], "a >= b", "a > b")
    tests = {"far::a": 0.1, "near::b": 3.0, "near::a": 1.0, "near::other": 0.5}
    tests |= {"near::beside": 0.2, "near::long": 99.0}
    lines = {mutant.lines[0]: ["far::a", "near::a", "near::b", "gone"]}
    lines[99] = ["near::beside", "near::a", "near::long"]
    footprints.add({"seconds": tests, "lines": {mutant.file: lines}})

    def names(budget):
        order = chosen(mutant, footprints, ("near", "far"), budget)
        assert order == [(name, tests[name]) for name, _ in order]
        return [name for name, _ in order]

    assert names(60) == ["near::a", "near::b", "far::a", "near::beside"]
    assert names(2) == ["near::a", "far::a", "near::beside"]
    # One at least, whatever it takes.
    assert names(0.05) == ["near::a"]


def test_each_change_is_one_and_has_a_name_of_its_own():
    part = PARTS["policies"]
    drawn = draw(part, 100, 1)
    assert drawn == draw(part, 100, 1)
    assert len({mutant.name for mutant in draw(part, 1_000_000, 1)}) > 800
    for mutant in drawn:
        source = (ROOT / mutant.file).read_bytes()
        changed = mutant.plant_in(source)
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))


def test_what_is_said_to_change_nothing_is_there_and_has_a_reason():
    reasons = known_equal()
    files = {ROOT / WHERE / name.split()[0] for name in reasons}
    there = {mutant.name for file in files for mutant in mutants_of(file)}
    assert all(reasons.values())
    assert set(reasons) - there == set()


@pytest.mark.skipif(not isolation(), reason="there is no unshare here")
def test_what_is_changed_sees_none_but_its_own_processes():
    look = "import os; print(*(name for name in os.listdir('/proc') if name.isdigit()))"
    command = [*isolation(), sys.executable, "-c", look]
    seen = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert set(map(int, seen.split())) <= {1, 2, 3}
