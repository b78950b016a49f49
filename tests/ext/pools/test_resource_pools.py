"""Pools as a configuration has them."""

import pytest

from taskorch import Elastic, Task, TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.ext import pools as resource_pools
from taskorch.policies import ProportionalAllocator

CONFIGURATION = """
other: whatever
# Resource Management
resource_pools:
  compute_units_total: 256
  memory_mb_total: 65536
  bandwidth_mbps_total: 10000
  thread_pool:
    max_threads: 128
    allocation_strategy: "proportional_chunking"
    adaptive_throttling: "disabled"  # prefer full utilisation until saturation
  allocation_algorithm:
    fallback_policy: "best_effort"
    min_chunk:
      compute_units: 2
      memory_mb: 256
      bandwidth_mbps: 100
    audit_logging: "population_state.job_resource_ledger"
"""


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "orchestrator.yaml"
    found.write_text(CONFIGURATION)
    return found


def test_a_configuration_is_loaded_as_it_is(path):
    pools = resource_pools.load(path)
    assert dict(pools.resources) == {
        "compute_units": 256,
        "memory_mb": 65536,
        "bandwidth_mbps": 10000,
        "threads": 128,
    }
    chunks = {"compute_units": 2, "memory_mb": 256, "bandwidth_mbps": 100}
    assert dict(pools.allocator.chunks) == chunks
    assert pools.fallback == "best_effort"


def test_what_has_no_effect_in_it_is_named_with_what_does_that_instead(path, caplog):
    more = "job_lifecycle:\n  states: [queued]\n  deep: {a: 1}\nself_improvement:\n"
    path.write_text(CONFIGURATION + more)
    found = resource_pools.load(path).without_effect
    assert [*found] == [
        *("other", "job_lifecycle.states", "job_lifecycle.deep", "self_improvement"),
        "resource_pools.allocation_algorithm.audit_logging",
    ]
    assert "FourStateMachine" in found["job_lifecycle.states"]
    for name, why in found.items():
        assert f"{name} ({why})" in caplog.text


def test_tasks_run_in_it(path):
    pools = resource_pools.load(path)
    wants = Elastic({"compute_units": 300, "memory_mb": 1000}, min={"compute_units": 2})
    with TaskOrchestrator(resources=pools.resources, allocator=pools.allocator) as orch:
        rigid = Task.call(pow, 2, 3, resources={"threads": 128})
        assert orch.submit_task(rigid).result() == 8
        elastic = Task.call(pow, 2, 3, resources=wants)
        assert orch.submit_task(elastic).result() == 8


def test_a_block_of_nearly_that_name_is_named(path):
    path.write_text(CONFIGURATION.replace("resource_pools:", "resource_pool:"))
    with pytest.raises(InvalidTaskError, match=r"and there is resource_pool$"):
        resource_pools.load(path)


def test_totals_alone_will_do():
    pools = resource_pools.parse({"cpu_total": 4})
    assert dict(pools.resources) == {"cpu": 4}
    assert dict(resource_pools.parse({"thread_pool": {}}).resources) == {}
    # A section in which nothing stands says nothing.
    sections = {"thread_pool": None, "allocation_algorithm": {"min_chunk": None}}
    pools = resource_pools.parse(sections)
    assert pools.allocator.chunks == ProportionalAllocator().chunks
    assert pools.fallback == "best_effort"
    twice = {"threads_total": 4, "thread_pool": {"max_threads": 4}}
    assert dict(resource_pools.parse(twice).resources) == {"threads": 4}
    least = resource_pools.parse({"allocation_algorithm": {"min_chunk": {}}})
    assert dict(least.allocator.chunks) == {}


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (None, "resource_pools: a mapping is needed"),
        ([], "resource_pools: a mapping is needed"),
        ({"cpu_total": -1}, r"resource_pools\.cpu_total: a number from 0 is needed"),
        ({"cpu_total": "four"}, r"cpu_total: a number from 0 is needed, not 'four'"),
        ({"cpu_total": None}, r"cpu_total: a number from 0 is needed, not nothing"),
        ({"cpu": 4}, "no 'cpu' here; there are thread_pool, .*, cpu_total"),
        ({"tokens": 4}, "no 'tokens' here; there are thread_pool, .*, tokens_total"),
        ({"thread_pol": {}}, "no 'thread_pol' here; did you mean 'thread_pool'"),
        ({"thread_pool": 3}, "thread_pool: a mapping"),
        ({"thread_pool": {"most": 3}}, r"thread_pool: there is no 'most' here"),
        (
            {"thread_pool": {"adaptive_throttling": "enabled"}},
            "adaptive_throttling: disabled is needed, not 'enabled'",
        ),
        (
            {"threads_total": 4, "thread_pool": {"max_threads": 8}},
            "max_threads: there are 4 by threads_total, and 8 here",
        ),
        (
            {"allocation_algorithm": {"fallback_policy": "none"}},
            "one of best_effort, all_or_nothing is needed, not 'none'",
        ),
        ({"allocation_algorithm": {"chunk": {}}}, "no 'chunk' here"),
        (
            {"cpu_total": 1, "allocation_algorithm": {"min_chunk": {"cpu": 2}}},
            r"min_chunk\.cpu: a chunk of cpu is 2, and there is 1",
        ),
        (
            {"cpu_total": 1, "allocation_algorithm": {"min_chunk": {"cpu": 0}}},
            r"min_chunk\.cpu: a number above 0 is needed",
        ),
        (
            {"cpu_total": 1, "allocation_algorithm": {"min_chunk": {"cpu": 1e-9}}},
            "below the smallest amount",
        ),
        ({"memory_gb_total": 1, "memory_mb_total": 5}, "are the same resource"),
    ],
)
def test_what_is_wrong_is_named(block, said):
    with pytest.raises(InvalidTaskError, match=said):
        resource_pools.parse(block)


def test_a_file_without_the_block_is_refused(tmp_path):
    path = tmp_path / "other.yaml"
    for text in ("other: 1\n", "3\n"):
        path.write_text(text)
        with pytest.raises(InvalidTaskError, match="no block resource_pools"):
            resource_pools.load(path)


def test_all_that_is_wrong_in_a_file_is_told_with_its_place(tmp_path):
    path = tmp_path / "pools.yaml"
    path.write_text(
        """\
resource_pools:
  cpu_total: 4
  thread_pol: {}
  thread_pool:
    adaptive_throttling: on
  allocation_algorithm: {min_chunk: {cpu: 8}}
"""
    )
    with pytest.raises(InvalidTaskError) as caught:
        resource_pools.load(path)

    message = caught.value.message
    for line in (
        "3:3: resource_pools: there is no 'thread_pol' here; did you mean",
        "5:26: resource_pools.thread_pool.adaptive_throttling: disabled is needed",
        "6:43: resource_pools.allocation_algorithm.min_chunk.cpu: a chunk of cpu is 8",
    ):
        assert f"{path}:{line}" in message
