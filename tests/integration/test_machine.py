"""What a machine gives us, as its files say it."""

import os

import pytest

from taskorch.runtime import _machine
from taskorch.runtime._machine import machine_resources


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 8 cores and 4096 MiB, and the folder of its cgroup."""
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 20}
    monkeypatch.setattr(_machine, "_CGROUP", tmp_path)
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


def test_a_machine_that_does_not_say_its_memory_has_one_gibibyte(machine, monkeypatch):
    def unknown(name):
        raise ValueError(name)

    monkeypatch.setattr(os, "sysconf", unknown)
    assert machine_resources()["memory_mb"] == 1024
