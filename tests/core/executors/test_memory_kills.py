"""What is read of the kernel's count of kills, in each form in which there is one."""

import gc
from pathlib import Path

import pytest

from taskorch.core.executors._programs._family import MemoryKills

V2 = "low 0\nhigh 0\nmax 7\noom 1\noom_kill {}\noom_group_kill 5\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
FORMS = {
    "v2": ("0::/user/one\n", "user/one/memory.events", V2),
    "v2, in a container": ("0::/docker/one\n", "memory.events", V2),
    "v1": ("5:cpu:/x\n4:memory:/one\n0::/\n", "memory/one/memory.oom_control", V1),
    "v1, joint": ("4:cpu,memory:/one\n", "memory/one/memory.oom_control", V1),
    "v1, in a container": ("4:memory:/far\n", "memory/memory.oom_control", V1),
}


@pytest.fixture(name="machine", params=FORMS.values(), ids=FORMS)
def fixture_machine(request, tmp_path):
    cgroups, name, text = request.param
    own, root = tmp_path / "own", tmp_path / "root"
    own.write_text(cgroups)
    file = root / name
    file.parent.mkdir(parents=True)
    file.write_text(text.format(3))
    return MemoryKills(own, root), lambda count: file.write_text(text.format(count))


def test_a_kill_is_claimed_once(machine):
    """Of two that were killed while the count grew by one, one was killed by others."""
    kills, set_count = machine
    before = kills.count()
    assert before == 3
    assert not kills.claim(before)
    set_count(4)
    assert kills.claim(before)
    assert not kills.claim(before)
    set_count(6)
    assert kills.claim(before)
    assert kills.claim(before)
    assert not kills.claim(before)


def test_the_first_kill_of_all_is_claimed_as_well(machine):
    kills, set_count = machine
    set_count(0)
    assert not kills.claim(kills.count())
    set_count(1)
    assert kills.claim(0)
    assert not kills.claim(0)


def test_who_began_after_a_kill_was_not_killed_by_it(machine):
    """Somebody else's may have been claimed by nobody."""
    kills, set_count = machine
    set_count(8)
    assert not kills.claim(kills.count())


@pytest.mark.parametrize(
    "cgroups", [None, "", "nonsense", "0::/\n", "4:memory:/x\n", "3:cpu:/x\n"]
)
def test_a_machine_that_says_nothing(tmp_path, cgroups):
    """Then nothing is proven."""
    own = tmp_path / "own"
    if cgroups is not None:
        own.write_text(cgroups)
    kills = MemoryKills(own, tmp_path)
    assert kills.count() == 0
    assert not kills.claim(0)


def test_a_count_that_goes_away(machine, tmp_path):
    """A cgroup can be removed, or its files be of another form."""
    kills, set_count = machine
    set_count("many")
    assert kills.count() == 0
    (file,) = [path for path in (tmp_path / "root").rglob("*") if path.is_file()]
    file.unlink()
    assert kills.count() == 0
    assert not kills.claim(0)


def test_to_read_the_count_leaves_nothing_open(machine):
    """It is read before each program."""
    kills, _ = machine
    gc.collect()
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(3):
        assert kills.count() == 3
    assert len(list(Path("/dev/fd").iterdir())) == before
