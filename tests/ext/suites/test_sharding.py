"""Shards: the files of a task in parts of about the same length, judged as one."""

import json

import pytest
from hypothesis import given, strategies as st

from taskorch import InvalidTaskError, ValidationFailedError
from taskorch.ext.suites import _sharding, load, run
from taskorch.ext.suites._folder import History, RunFolder
from taskorch.ext.suites._judging import CriteriaNotMetError
from taskorch.ext.suites._sharding import dealt, sharded

SLOW = pytest.mark.slow("runs pytest in parts")

SUITE = """\
templates:
  t: {{pytest: [-q], coverage: [pkg]}}
orchestrator:
  task_definitions:
    unit_tests:
      - {{id: A, template: t, shards: {shards}, arguments: {arguments},
         success_criteria: {criteria}}}
      - {{id: B, template: t, dependencies: [A], arguments: [tests/test_0.py]}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Four files: 1, 2, 3 and 4 tests; the first test of the last one fails."""
    here = tmp_path_factory.mktemp("project")
    (here / "pytest.ini").write_text("[pytest]\n")
    (here / "pkg.py").write_text(
        "def f(x):\n    if x == 3:\n        return 3\n    return 0\n"
    )
    (here / "tests").mkdir()
    for n in range(4):
        text = "from pkg import f\n"
        for k in range(n + 1):
            text += f"def test_{k}():\n    assert ({n}, {k}) != (3, 0) and f({n}) in (0, {n})\n"
        (here / f"tests/test_{n}.py").write_text(text)
    return here


@pytest.fixture
def suite_of(project, tmp_path):
    def suite_of(criteria="{}", arguments="[tests]", shards=2):
        path = project / f"{tmp_path.name}.yaml"
        path.write_text(
            SUITE.format(criteria=criteria, arguments=arguments, shards=shards)
        )
        return load(path)

    return suite_of


def test_shards_together_need_what_the_largest_needs(tmp_path):
    """Each has the memory of the task, and they may run one after another."""
    part = {
        "coverage_data": str(tmp_path / "none"),
        "counts": {"passed": 1},
        "started": 1.0,
        "exit_code": 0,
        "ended": 2.0,
    }
    parts = [{**part, "memory_mb": 300.0}, {**part, "memory_mb": 200.0}]
    about = {"id": "A", "python": "", "cwd": "", "criteria": {"memory_max": 310}}
    assert _sharding.judged(parts, about)["counts"]["passed"] == 2
    about["criteria"] = {"memory_max": 290}
    with pytest.raises(CriteriaNotMetError, match="memory"):
        _sharding.judged(parts, about)


@pytest.mark.parametrize("codes", [(3, 0), (0, 3)])
def test_shards_together_ended_as_the_first_that_did_not_end_well(tmp_path, codes):
    part = {
        "coverage_data": str(tmp_path / "none"),
        "counts": {"passed": 1},
        "started": 1.0,
        "ended": 2.0,
        "memory_mb": 1.0,
    }
    parts = [{**part, "exit_code": code} for code in codes]
    about = {"id": "A", "python": "", "cwd": "", "criteria": {}}
    with pytest.raises(CriteriaNotMetError, match="it exited with 3"):
        _sharding.judged(parts, about)


def test_shards_together_take_from_the_first_start_to_the_last_end(tmp_path):
    part = {
        "coverage_data": str(tmp_path / "none"),
        "counts": {"passed": 1},
        "exit_code": 0,
        "memory_mb": 1.0,
    }
    parts = [
        {**part, "started": 1.0, "ended": 5.0},
        {**part, "started": 3.0, "ended": 9.0},
    ]
    about = {"id": "A", "python": "", "cwd": "", "criteria": {"execution_time_max": 8}}
    assert _sharding.judged(parts, about)["duration_seconds"] == 8.0
    about["criteria"] = {"execution_time_max": 7.9}
    with pytest.raises(CriteriaNotMetError, match="execution_time"):
        _sharding.judged(parts, about)


def piles(suite):
    return [
        [word for word in part.arguments if not word.startswith("-")]
        for part in suite.tasks[0].subtasks
    ]


def files(*numbers):
    return [f"tests/test_{n}.py" for n in numbers]


def test_first_the_number_of_tests_decides_and_then_recorded_durations(
    suite_of, tmp_path
):
    folder = RunFolder(tmp_path / "out").make()
    suite = sharded(suite_of(arguments="[tests, -x]"), folder)
    assert [part.id for part in suite.tasks[0].subtasks] == ["A-1", "A-2"]
    assert piles(suite) == [files(0, 3), files(1, 2)]
    assert suite.tasks[0].subtasks[0].arguments[-1] == "-x"
    # A run that goes on has the same shards.
    history = History(
        tests={"tests/test_0.py::test_0": 9.0, "tests/test_3.py::test_0": 1.0}
    )
    history.write(folder.history)
    assert piles(sharded(suite_of(), folder)) == [files(0, 3), files(1, 2)]
    # So has one that version 0.1.0 began.
    folder.shards.write_text(json.dumps({"A": [files(2), files(0, 1, 3)]}))
    assert piles(sharded(suite_of(), folder)) == [files(2), files(0, 1, 3)]
    folder.shards.unlink()
    # What is not known takes the usual time of a test, 5 s, for each: 10 s and 15 s.
    assert piles(sharded(suite_of(), folder)) == [files(2, 3), files(0, 1)]


def test_the_value_of_an_option_is_no_file_to_split_though_there_is_one(
    suite_of, tmp_path
):
    options = ["-k", "tests", "--ignore", "tests/test_1.py", "-c", "pytest.ini"]
    options += ["--deselect", "tests/test_0.py::test_9"]
    words = [*options[:4], "tests", *options[4:]]
    folder = RunFolder(tmp_path / "out").make()
    parts = sharded(suite_of(arguments=json.dumps(words)), folder).tasks[0].subtasks
    assert [[*part.arguments] for part in parts] == [
        [*files(3), *options],
        [*files(0, 2), *options],
    ]


@pytest.mark.slow("pytest collects after each change")
@pytest.mark.parametrize(
    "change",
    ["a file", "another content", "the settings", "the arguments", "a variable"],
)
def test_pytest_looks_for_the_tests_again_only_if_something_has_changed(
    change, tmp_path, monkeypatch
):
    def write(name, text):
        tmp_path.joinpath(name).write_text(text)

    def shards():
        folder.shards.unlink(missing_ok=True)
        return sorted(piles(sharded(load(tmp_path / "suite.yaml"), folder)))

    def collect(*args):
        looked.append(1)
        return really(*args)

    looked = []
    really = _sharding._collect
    monkeypatch.setattr(_sharding, "_collect", collect)
    text = (
        "templates: {t: {pytest: [-q]}}\norchestrator: {task_definitions: {unit_tests: "
        "[{id: A, template: t, shards: 9, arguments: [tests]}]}}\n"
    )
    folder = RunFolder(tmp_path / "out").make()
    tmp_path.joinpath("tests").mkdir()
    write("pytest.ini", "[pytest]\n")
    write("suite.yaml", text)
    write("tests/test_a.py", "def test(): pass\n")
    before = shards()
    assert shards() == before == [["tests/test_a.py"]]
    assert len(looked) == 1

    match change:
        case "a file":
            write("tests/test_b.py", "def test(): pass\n")
        case "another content":
            write("tests/test_a.py", "def test(): pass\ndef test_b(): pass\n")
        case "the settings":
            write("pytest.ini", "[pytest]\npython_functions = check\n")
            write("tests/test_a.py", "def check(): pass\n")
        case "the arguments":
            write("suite.yaml", text.replace("-q", "-x"))
        case "a variable":
            monkeypatch.setenv("PYTEST_ADDOPTS", "-v")
    after = shards()
    assert len(looked) == 2
    new = [["tests/test_b.py"]] if change == "a file" else []
    assert after == shards() == before + new
    folder.collected.write_text('{"A": 7}')
    assert shards() == after
    assert len(looked) == 3


@SLOW
def test_shards_are_judged_together(suite_of, tmp_path):
    """One of ten tests fails: 0.9, although a shard has 0.8."""
    report = run(suite_of("{pass_rate: 0.9, coverage: 1.0}"), tmp_path / "out")
    xml = (tmp_path / "out/report.xml").read_text()
    assert report.passed
    assert report.counts.total == 11  # 10, and that of B
    parts = {task.id: task for task in report.tasks}
    assert parts["A-1"].counts.failed + parts["A-2"].counts.failed == 1
    assert (parts["A-1"].coverage, parts["A-2"].coverage) == (1.0, 0.75)
    said = json.loads((tmp_path / "out/artifacts/A_coverage.json").read_text())
    assert said["totals"]["covered_lines"] == 4
    # The tests stand once in what other tools read, and the task once in the sentence.
    assert xml.count("<testcase") == 11
    assert report.headline.startswith("2 of 2 tasks succeeded, in 3 of 3 parts: ")


@SLOW
def test_a_whole_that_does_not_meet_its_criteria_blocks_what_depends_on_it(
    suite_of, tmp_path
):
    report = run(suite_of("{pass_rate: 0.91}"), tmp_path / "out")
    assert 'name="A"' in (tmp_path / "out/report.xml").read_text()
    states = {task.id: task.status for task in report.tasks}
    assert states == {
        "A-1": "completed_success",
        "A-2": "completed_success",
        "A": "completed_failure",
        "B": "blocked",
    }
    whole = next(task for task in report.tasks if task.id == "A")
    assert whole.error.startswith("pass_rate is 0.9 (9 of 10), and at least 0.91")


@SLOW
def test_without_a_rate_the_shard_whose_test_fails_has_failed(suite_of, tmp_path):
    report = run(suite_of(), tmp_path / "out")
    states = {task.id: task.status for task in report.tasks}
    assert sorted(states.values()) == [
        *("blocked", "completed_failure", "completed_failure", "completed_success")
    ]
    # Its shard has said it: the whole is no test besides.
    assert (tmp_path / "out/report.xml").read_text().count("<testcase") == 11


@pytest.mark.slow("pytest collects each time")
@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("[-q]", "name no files and folders alone"),
        ("[tests/test_0.py::test_0]", "name no files and folders alone"),
        ("[-k, tests]", "name no files and folders alone"),
        ("[tests, nothing.py]", "pytest exits with 4"),
        ("[tests, -knothing]", "pytest finds no tests"),
    ],
)
def test_what_cannot_be_split(arguments, part, suite_of, tmp_path):
    with pytest.raises(InvalidTaskError, match=part):
        run(suite_of(arguments=arguments), tmp_path / "out")


def test_files_that_cannot_be_read_or_are_skipped_are_in_a_shard_too(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_broken.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "test_out.py").write_text(
        "import pytest\npytest.skip('no', allow_module_level=True)\n"
    )
    (tmp_path / "test_good.py").write_text("def test(): pass\n")
    (tmp_path / "suite.yaml").write_text(
        "templates: {t: {pytest: []}}\norchestrator: {task_definitions: {unit_tests: "
        "[{id: A, template: t, shards: 9, arguments: [.]}]}}\n"
    )
    suite = sharded(load(tmp_path / "suite.yaml"), RunFolder(tmp_path / "out").make())
    assert sorted(piles(suite)) == [
        ["test_broken.py"],
        ["test_good.py"],
        ["test_out.py"],
    ]


@SLOW
def test_coverage_of_shards_is_that_of_the_whole(tmp_path):
    """With a file that has no tests and runs lines, and a limit of the project's."""
    for name, text in {
        "pytest.ini": "[pytest]\n",
        ".coveragerc": "[report]\nfail_under = 99\n",
        "pkg.py": "def f(x):\n    return x\ndef g():\n    return 0\n",
        "test_a.py": "import pkg\ndef test(): assert pkg.f(1)\n",
        "test_b.py": "def test(): pass\n",
        "test_none.py": "import pkg\npkg.g()\n",
        "suite.yaml": (
            "templates: {t: {pytest: [-q], coverage: [pkg]}}\norchestrator: "
            "{task_definitions: {unit: [{id: A, template: t, shards: 5, arguments: [.],"
            " success_criteria: {coverage: 0.9}}]}}\n"
        ),
    }.items():
        (tmp_path / name).write_text(text)
    report = run(load(tmp_path / "suite.yaml"), tmp_path / "out")
    assert (report.passed, report.covered) == (True, (4, 4))


@SLOW
def test_all_is_covered_where_there_is_nothing_to_cover(tmp_path):
    for name, text in {
        "pytest.ini": "[pytest]\n",
        "pkg.py": "# nothing yet\n",
        "test_a.py": "import pkg\ndef test(): pass\n",
        "test_b.py": "import pkg\ndef test(): pass\n",
        "suite.yaml": (
            "templates: {t: {pytest: [-q], coverage: [pkg]}}\norchestrator: "
            "{task_definitions: {unit: [{id: A, template: t, shards: 2,"
            " arguments: [.], success_criteria: {coverage: 0.9}}]}}\n"
        ),
    }.items():
        (tmp_path / name).write_text(text)
    report = run(load(tmp_path / "suite.yaml"), tmp_path / "out")
    assert (report.passed, report.covered, report.coverage) == (True, (0, 0), 1.0)
    (whole,) = report.whole
    assert whole.coverage == 1.0
    lines = (tmp_path / "out/logs/messages.jsonl").read_text().splitlines()
    said = {
        message["task_id"]: message["test_results"]["coverage_percentage"]
        for message in map(json.loads, lines)
        if message["message_type"] == "task_completion"
    }
    assert said["A"] == 100.0


@pytest.mark.parametrize(
    ("task", "part"),
    [
        ("{id: A, template: t, shards: 2, subtasks: [B]}", "A has shards and subtasks"),
        ("{id: A, template: c, shards: 2}", "only what pytest runs can be split"),
        ("{id: A, template: t, shards: 0}", "a whole number from 1 to 999 is needed"),
        (
            "{id: A, template: t, shards: 2}, {id: A-2, template: t}",
            "id 'A-2' is that of a shard of A",
        ),
    ],
)
def test_a_configuration_that_cannot_be(task, part, tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(
        "templates: {t: {pytest: []}, c: {command: [x]}}\n"
        f"orchestrator: {{task_definitions: {{unit_tests: [{task}]}}}}\n"
    )
    with pytest.raises(ValidationFailedError, match=part):
        load(path)


@given(
    st.dictionaries(st.text(), st.floats(0, 1e6), min_size=1),
    st.integers(1, 20),
)
def test_every_file_is_in_one_pile_and_none_is_much_too_heavy(weights, count):
    """Graham's bound for the longest first: 4/3 of the best possible."""
    found = dealt(weights, count)
    assert sorted(name for pile in found for name in pile) == sorted(weights)
    assert len(found) <= count
    heaviest = max(sum(weights[name] for name in pile) for pile in found)
    best = max(sum(weights.values()) / count, *weights.values())
    assert heaviest <= 2 * best + 1e-6
    assert dealt(weights, count) == found
