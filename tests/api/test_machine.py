"""What a machine gives us, as its files say it."""

import os
import sys
from types import SimpleNamespace

import pytest
from tests.api.tools import PATIENCE

from taskorch import Task, TaskOrchestrator
from taskorch.core.engine import machine_resources
from taskorch.errors import UnsatisfiableError
from taskorch.kit import machine as machine_kit
from taskorch.kit.machine import machine_labels, whole_cores
from taskorch.model import check_labels


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 8 cores and 4096 MiB, and the folder of its cgroup."""
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 20}
    monkeypatch.setattr(machine_kit, "_CGROUP", str(tmp_path))
    monkeypatch.setattr(machine_kit, "_GROUPS", f"{tmp_path}/groups")
    monkeypatch.setattr(machine_kit, "_NETWORK", f"{tmp_path}/net")
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
        for name in ("cpu", "memory_mb", "disk_mb", "bandwidth_mbps"):
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


# -- network ---------------------------------------------------------------------------


def interface(machine, name, speed, state="up", *, device=True, part=False):
    """An interface, as Linux has it."""
    folder = machine / "net" / name
    folder.mkdir(parents=True)
    (folder / "operstate").write_text(f"{state}\n")
    if speed is not None:
        (folder / "speed").write_text(f"{speed}\n")
    if device:
        (folder / "device").mkdir()
    if part:
        (folder / "device" / "physfn").mkdir()


def test_bandwidth_is_that_of_all_devices_that_are_up_and_say_it(machine):
    interface(machine, "eth0", 10_000)
    interface(machine, "eth1", 2_500)
    interface(machine, "eth2", 1_000, "down")
    interface(machine, "eth3", 1_000, "dormant")
    interface(machine, "eth4", -1)
    # What is made of others, or goes nowhere, would count twice.
    interface(machine, "bond0", 12_500, device=False)
    interface(machine, "veth1", 10_000, device=False)
    interface(machine, "eth0v1", 10_000, part=True)
    interface(machine, "lo", None, "unknown", device=False)
    assert machine_resources()["bandwidth_mbps"] == 12_500
    with TaskOrchestrator() as orch:
        assert orch.resources.usage()["bandwidth_mbps"].total == 12_500
        task = Task.call(int, resources={"bandwidth_mbps": 12_500})
        assert orch.submit_task(task).result(timeout=PATIENCE) == 0
        with pytest.raises(UnsatisfiableError):
            orch.submit_task(Task.call(int, resources={"bandwidth_mbps": 12_501}))


@pytest.mark.parametrize("speed", ["-1", "0", "", "4294967295", "2147483647", "fast"])
def test_a_speed_that_is_not_known_makes_no_pool(machine, speed):
    interface(machine, "eth0", speed)
    assert "bandwidth_mbps" not in machine_resources()
    with TaskOrchestrator() as orch, pytest.raises(UnsatisfiableError) as caught:
        orch.submit_task(Task.call(int, resources={"bandwidth_mbps": 1}))
    assert "how much bandwidth_mbps this machine has is unknown" in caught.value.hint


def test_an_interface_that_does_not_answer_is_left_out(machine):
    """Linux answers a question for the speed of one that is down with an error."""
    interface(machine, "eth0", None)
    interface(machine, "eth1", 1_000)
    (machine / "net" / "bonding_masters").touch()
    assert machine_resources()["bandwidth_mbps"] == 1_000


# -- what it is ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "machine", "labels"),
    [
        ("linux", "x86_64", ("machine:x86_64", "platform:linux")),
        ("linux", "aarch64", ("machine:arm64", "platform:linux")),
        ("darwin", "arm64", ("machine:arm64", "platform:darwin")),
        ("win32", "AMD64", ("machine:x86_64", "platform:windows")),
        ("freebsd14", "amd64", ("machine:x86_64", "platform:freebsd14")),
        ("linux", "", ("platform:linux",)),
    ],
)
def test_systems_have_one_word_for_the_same(monkeypatch, platform, machine, labels):
    monkeypatch.setattr(sys, "platform", platform)
    if platform == "win32":
        monkeypatch.delattr(os, "uname")
        monkeypatch.setenv("PROCESSOR_ARCHITECTURE", machine)
    else:
        name = SimpleNamespace(machine=machine)
        monkeypatch.setattr(os, "uname", lambda: name)
    python = f"python:{sys.version_info[0]}.{sys.version_info[1]}"
    assert machine_labels() == (*labels, python)
    assert check_labels(machine_labels()) == machine_labels()


class Lookups:
    """Stands before all that finds modules, and notes what is looked for."""

    def __init__(self):
        self.names = []

    def find_spec(self, name, path=None, target=None):
        self.names.append(name)


def test_a_process_looks_for_the_library_of_gpus_once(monkeypatch):
    """A look waits for the locks of imports, where whoever begins may hang."""
    lookups = Lookups()
    monkeypatch.setattr(sys, "meta_path", [lookups, *sys.meta_path])
    for _ in range(3):
        with TaskOrchestrator() as orch:
            assert orch.submit(pow, 2, 5).result(PATIENCE) == 32
    assert lookups.names.count("pynvml") <= 1
