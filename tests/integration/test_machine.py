"""What a machine gives us, as its files say it."""

import os

import pytest
from tests.integration.tools import PATIENCE

from taskorch import Task, TaskOrchestrator
from taskorch.errors import UnsatisfiableError
from taskorch.runtime import _attempts
from taskorch.runtime._attempts import machine_resources, whole_cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 8 cores and 4096 MiB, and the folder of its cgroup."""
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 20}
    monkeypatch.setattr(_attempts, "_CGROUP", str(tmp_path))
    monkeypatch.setattr(_attempts, "_GROUPS", f"{tmp_path}/groups")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    return tmp_path


@pytest.mark.parametrize(
    ("said", "cores"),
    [
        ("", 8),
        ("max 100000\n", 8),
        ("250000 100000\n", 2.5),
        ("1600000 100000\n", 8),
        ("1 100000\n", 0.01),
        ("250000\n", 8),
        ("250000 max\n", 8),
        ("250000 100000 1\n", 8),
    ],
)
def test_cores_are_those_of_the_quota_if_there_is_one(machine, said, cores):
    (machine / "cpu.max").write_text(said)
    assert machine_resources()["cpu"] == cores


@pytest.mark.parametrize(("said", "cores"), [("max", 8), ("250000", 2), ("50000", 1)])
def test_so_many_processes_work_as_there_are_whole_cores(machine, said, cores):
    (machine / "cpu.max").write_text(f"{said} 100000\n")
    assert whole_cores() == cores


def test_where_nobody_says_which_cores_are_ours_all_are(machine, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert machine_resources()["cpu"] == 3


@pytest.mark.parametrize(
    ("name", "said", "mib"),
    [
        ("memory.max", "max\n", 4096),
        ("memory.max", f"{512 << 20}\n", 512),
        ("memory.max", f"{1 << 40}\n", 4096),
        ("memory/memory.limit_in_bytes", f"{256 << 20}\n", 256),
        ("memory/memory.limit_in_bytes", f"{2**63 - 4096}\n", 4096),
    ],
)
def test_memory_is_that_of_the_limit_if_there_is_one(machine, name, said, mib):
    (machine / name).parent.mkdir(exist_ok=True)
    (machine / name).write_text(said)
    assert machine_resources()["memory_mb"] == mib


@pytest.fixture
def nobody_knows(machine, monkeypatch):
    def unknown(name):
        raise ValueError(name)

    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.setattr(os, "sysconf", unknown)
    monkeypatch.delattr(os, "statvfs", raising=False)
    return machine


@pytest.mark.usefixtures("nobody_knows")
def test_what_nobody_knows_is_left_out_and_who_asks_for_it_is_told():
    assert dict(machine_resources()) == {}
    with TaskOrchestrator() as orch:
        for name in ("cpu", "memory_mb", "disk_mb"):
            with pytest.raises(UnsatisfiableError) as caught:
                orch.submit_task(Task.call(int, resources={name: 1}))
            assert f"how much {name} this machine has is unknown" in caught.value.hint
        orch.resources.resize({"memory_mb": 64})
        task = Task.call(int, resources={"memory_mb": 1})
        assert orch.submit_task(task).result(timeout=PATIENCE) == 0


def test_a_limit_says_what_the_machine_does_not(nobody_knows):
    (nobody_knows / "cpu.max").write_text("250000 100000\n")
    (nobody_knows / "memory.max").write_text(f"{512 << 20}\n")
    assert dict(machine_resources()) == {"cpu": 2.5, "memory_mb": 512}


def test_disk_is_what_is_free_here():
    disk = os.statvfs(".")
    free = disk.f_bavail * disk.f_frsize >> 20
    assert machine_resources()["disk_mb"] == pytest.approx(free, rel=0.1)


def test_a_limit_of_any_group_that_we_are_in_holds(machine):
    """Of ours, and of one that is around it; in both versions of cgroups."""
    (machine / "groups").write_text(
        "5:memory:/jobs/nightly\n4:cpu,cpuacct:/jobs\n3:pids:/x\n0::/slice/unit\n"
    )
    for path, text in (
        ("slice/memory.max", f"{2048 << 20}\n"),
        ("slice/unit/memory.max", "max\n"),
        ("slice/unit/cpu.max", "600000 100000\n"),
    ):
        (machine / path).parent.mkdir(parents=True, exist_ok=True)
        (machine / path).write_text(text)
    found = machine_resources()
    assert (found["cpu"], found["memory_mb"]) == (6, 2048)
    for path, text in (
        ("memory/jobs/nightly/memory.limit_in_bytes", f"{256 << 20}\n"),
        ("cpu/jobs/cpu.cfs_quota_us", "150000\n"),
        ("cpu/jobs/cpu.cfs_period_us", "100000\n"),
        ("pids/x/cpu.max", "1 100000\n"),
    ):
        (machine / path).parent.mkdir(parents=True, exist_ok=True)
        (machine / path).write_text(text)
    found = machine_resources()
    assert (found["cpu"], found["memory_mb"]) == (1.5, 256)
