"""The adapter for a benchmark of others: what comes in, what goes out, and its end."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE

from taskorch import TaskOrchestrator

ADAPTER = Path(__file__).parents[3] / "benchmarks" / "neutral"
MANIFEST = json.loads((ADAPTER / "adapter.json").read_text(encoding="utf-8"))
#: What every adapter has to say at each tick.
METRICS = {
    "claim_p50_ms",
    "claim_p95_ms",
    "claim_p99_ms",
    "enqueue_rate",
    "completion_rate",
    "queue_depth",
}


@contextmanager
def adapter(postgres, partition, **variables):
    """The process, as the harness starts it; its database has a partition for us."""
    process = subprocess.Popen(
        [sys.executable, ADAPTER / "main.py"],
        env={
            **os.environ,
            "DATABASE_URL": postgres.address(partition),
            "SAMPLE_EVERY_S": "1",
            "WORKER_COUNT": "8",
            **variables,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(process, metric, is_so):
    """All records up to the one of a *metric* whose value is as wanted."""
    seen = []
    for line in process.stdout:
        seen.append(json.loads(line))
        if seen[-1].get("metric") == metric and is_so(seen[-1]["value"]):
            return seen
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize(
    "producer",
    [
        pytest.param({"PRODUCER_PACING": "harness"}, id="tokens"),
        pytest.param(
            {"PRODUCER_PACING": "adapter", "PRODUCER_RATE": "100"},
            marks=pytest.mark.slow("a process, paced in another way"),
            id="rate",
        ),
        pytest.param(
            {"PRODUCER_MODE": "depth-target", "TARGET_DEPTH": "20"},
            marks=pytest.mark.slow("a process, paced in another way"),
            id="depth",
        ),
    ],
)
def test_it_says_what_the_harness_reads(postgres, producer):
    with adapter(postgres, f"neutral-{'-'.join(producer)}", **producer) as process:
        # Rates are those since the tick before: jobs that end before the first are in none.
        first = until(process, "claim_p50_ms", lambda late: True)
        if producer.get("PRODUCER_PACING") == "harness":
            process.stdin.write("ENQUEUE 20\nENQUEUE 5\n")
            process.stdin.flush()
        descriptor, *samples = first
        samples += until(process, "completion_rate", lambda rate: rate > 0)
        # The rest of this tick: the harness wants it whole.
        samples += until(process, "queue_depth", lambda depth: True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert descriptor["kind"] == "descriptor"
    assert descriptor["system"] == MANIFEST["system"]
    assert set(MANIFEST["event_tables"]) <= set(descriptor["event_tables"])
    assert {each["metric"] for each in samples} >= METRICS
    for each in samples:
        assert (each["kind"], each["subject_kind"]) == ("adapter", "adapter")
        assert each["value"] >= 0.0


def test_one_that_stands_by_goes_on_with_what_a_killed_one_had(postgres):
    tokens = {"PRODUCER_PACING": "harness", "JOB_WORK_MS": "60000"}
    with adapter(postgres, "neutral-kill", **tokens) as first:
        until(first, "claim_p50_ms", lambda late: True)
        first.stdin.write("ENQUEUE 30\n")
        first.stdin.flush()
        until(first, "enqueue_rate", lambda rate: rate > 0)
        quick = {"BENCH_INSTANCE_ID": "1", "JOB_WORK_MS": "1"}
        with adapter(postgres, "neutral-kill", **quick) as second:
            until(second, "claim_p50_ms", lambda late: True)
            first.kill()
            until(second, "completion_rate", lambda rate: rate > 0)
            second.send_signal(signal.SIGTERM)
            assert second.wait(PATIENCE) == 0


def test_its_tables_are_made_beforehand(postgres):
    with adapter(postgres, "neutral-make", SCENARIO="migrate_only") as process:
        assert process.wait(PATIENCE) == 0
    with adapter(postgres, "neutral-make", SCENARIO="dance") as process:
        assert process.wait(PATIENCE) == 2
        assert "there is no scenario 'dance' here" in process.stderr.read()


#: Asked to end just before it has an orchestrator that could be stopped.
EARLY = """
import runpy, signal, sys, taskorch

real = taskorch.PostgresJournal

def journal(*args, **options):
    signal.raise_signal(signal.SIGTERM)
    return real(*args, **options)

taskorch.PostgresJournal = journal
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_it_ends_before_it_has_an_orchestrator(postgres):
    """It would stand by for ever."""
    address = postgres.address("neutral-early")
    with TaskOrchestrator(journal=address):
        ended = subprocess.run(
            [sys.executable, "-c", EARLY, ADAPTER / "main.py"],
            env={**os.environ, "DATABASE_URL": address},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    assert ended.returncode == 0


def test_it_ends_as_soon_as_it_has_said_what_it_is(postgres):
    with adapter(postgres, "neutral-soon") as process:
        assert json.loads(process.stdout.readline())["kind"] == "descriptor"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
