"""Events over HTTP: pages, and streams that go on where they were."""

from __future__ import annotations

import time

import pytest
from tests.api.tools import eventually
from tests.ext.service.tools import orchestrator, served

from taskorch import MemoryJournal, Task
from taskorch.events import SIGNALS, signal_name
from taskorch.ext.service import _feed
from taskorch.ext.views import JournalReader

EVENTS = "/api/v1/events"
ENDS = "names=task_completed"


def names(service, query=""):
    page = service.get(f"{EVENTS}?{query}")
    return [event["task_id"] for event in page["events"]], page["next"]


def run(service, *ids):
    for name in ids:
        service.orch.submit_task(Task("echo", id=name)).result()
    service.orch.wait()


def test_events_of_some_tasks(service):
    run(service, "nightly/a", "b")

    assert names(service, f"{ENDS}&task=nightly/*")[0] == ["nightly/a"]
    service.orch.resources.resize({"licence": 1})
    told = service.get(f"{EVENTS}?task=nightly/*")["events"]
    assert {event.get("task_id") for event in told} == {"nightly/a"}
    # It is told by a thread of its own.
    eventually(
        lambda: "pools_changed" in {e["event"] for e in service.get(EVENTS)["events"]}
    )
    kinds = [e["event"] for e in service.get(f"{EVENTS}?task=b")["events"]]
    assert kinds == ["task_submitted", "task_started", "task_completed"]


@pytest.mark.parametrize(
    "query", ["names=task_lost", "after=x", "after=-1", "limit=0", "a=b"]
)
def test_a_query_that_makes_no_sense(service, query):
    assert service.ask("GET", f"{EVENTS}?{query}").status == 400


# -- streams ---------------------------------------------------------------------------


def test_a_head_of_a_stream_ends(service):
    assert service.ask("HEAD", f"{EVENTS}/stream").status == 200


def test_a_quiet_stream_says_that_it_lives_and_where_it_is(service, monkeypatch):
    monkeypatch.setattr("taskorch.ext.service._feed.QUIET_SECONDS", 0.01)
    with service.follow("?names=task_failed") as stream:
        begin = stream.response.readline(), stream.response.readline()
        run(service, "a")
        while (line := stream.response.readline()).strip() in (
            b"",
            b": quiet",
            begin[1].strip(),
        ):
            pass

    assert begin[0] == b"retry: 1000\n"
    assert line.startswith(b"id: ")
    with service.follow(
        "?names=task_completed", Last_Event_ID=begin[1][4:].decode().strip()
    ) as stream:
        assert stream.take(1)[0][1]["task_id"] == "a"


def test_whoever_fell_behind_hears_that_something_is_missing(service, monkeypatch):
    monkeypatch.setattr(_feed, "KEPT", 20)
    run(service, "a")
    after = service.get(EVENTS)["next"]
    run(service, *(f"t{n}" for n in range(20)))

    page = service.get(f"{EVENTS}?after={after}")
    assert page["missed"]
    assert 20 <= len(page["events"]) < 40
    with service.follow(Last_Event_ID=after) as stream:
        told = stream.take(3)
    assert told[0] == ("events_missed", {})
    assert told[1][1]["seq"] == page["events"][0]["seq"]


def test_a_gap_is_said_where_there_is_one_and_nowhere_else(service, monkeypatch):
    """From wherever one goes on, as events leave memory; the latest ten are there."""
    monkeypatch.setattr(_feed, "KEPT", 10)
    every, cursor, gaps = [], "0", 0
    for n in range(20):
        run(service, f"t{n}")
        page = service.get(f"{EVENTS}?after={cursor}")
        every += [event["seq"] for event in page["events"]]
        cursor = page["next"]
        incarnation = cursor.partition("-")[2]
        for place in range(max(0, len(every) - 22), len(every)):
            page = service.get(f"{EVENTS}?after={every[place]}-{incarnation}")
            rest = every[place + 1 :]
            found = [event["seq"] for event in page["events"]]
            if page["missed"]:
                gaps += 1
                assert 10 <= len(found) < len(rest)
                assert found == rest[-len(found) :]
            else:
                assert found == rest
    assert gaps


def test_a_stream_ends_with_the_service(service, monkeypatch):
    """It does not wait for the next event, or for the next sign that it lives."""
    monkeypatch.setattr("taskorch.ext.service._feed.QUIET_SECONDS", 1e6)
    with service.follow(f"?{ENDS}") as stream:
        run(service, "a")
        stream.take(1)
        service.server.stop()
        # Nothing is cut off.
        assert not stream.response.read()


def test_in_another_incarnation_numbers_of_an_earlier_one_mean_nothing():
    with served(orchestrator()) as service:
        run(service, "a")
        after = service.get(EVENTS)["next"]
    with served(orchestrator()) as service:
        run(service, "b", "c")
        assert service.ask("GET", f"{EVENTS}?after={after}").status == 400
        with service.follow(f"?{ENDS}", Last_Event_ID=after) as stream:
            run(service, "d")
            told = stream.take(2)

    assert told[0] == ("events_missed", {})
    assert told[1][1]["task_id"] == "d"


@pytest.fixture
def durable(tmp_path):
    """Makes a served orchestrator of the same journal, again and again."""
    path = tmp_path / "runs.db"
    with orchestrator(journal=path):
        pass  # so that there is one to be read

    def make():
        return served(orchestrator(journal=path), journal=JournalReader(path))

    return make


def test_with_a_journal_a_stream_goes_on_in_the_next_incarnation(durable):
    with durable() as service:
        run(service, "a")
        with service.follow(f"?{ENDS}&after=0") as stream:
            assert stream.take(1)[0][1]["task_id"] == "a"
        run(service, "b")
    with (
        durable() as service,
        service.follow(f"?{ENDS}", Last_Event_ID=stream.last) as stream,
    ):
        run(service, "c")
        told = stream.take(2)

    assert [data["task_id"] for _, data in told] == ["b", "c"]


def test_with_a_journal_nothing_is_missing(durable, tmp_path, monkeypatch):
    """Whether it is kept in memory, in the file, or on either side of that."""
    monkeypatch.setattr(_feed, "KEPT", 4)
    ids = [f"t{n}" for n in range(12)]
    with durable() as service:
        run(service, *ids)
        found, after = [], "0"
        while True:
            some, following = names(service, f"{ENDS}&limit=5&after={after}")
            if following == after:
                break
            found, after = found + some, following
        with service.follow(f"?{ENDS}&after=0") as stream:
            told = stream.take(len(ids))

        after, every = "0", []
        while events := (page := service.get(f"{EVENTS}?limit=5&after={after}"))[
            "events"
        ]:
            every, after = [*every, *events], page["next"]
        kept = JournalReader(tmp_path / "runs.db").happened()
        kept = [(event.seq, type(event)) for event in kept]

    assert found == ids
    assert [data["task_id"] for _, data in told] == ids
    names_told = {event["event"] for event in every}
    assert [event["seq"] for event in every] == [
        seq for seq, cls in kept if signal_name(cls) in names_told
    ]


@pytest.mark.slow("nine thousand submissions")
@pytest.mark.timeout(300)
def test_to_catch_up_takes_what_is_missing_and_not_its_square(tmp_path):
    """Whatever was kept in one piece: here, thousands of submissions."""
    seconds = []
    for number in (1_000, 8_000):
        path = tmp_path / f"{number}.db"
        with orchestrator(journal=path, durability="process") as orch:
            orch.submit_tasks([Task("echo", id=f"t/{n}") for n in range(number)])
        journal = JournalReader(path)
        with served(orchestrator(journal=path), journal=journal) as service:
            begun, found, after = time.process_time(), 0, "0"
            while events := (page := service.get(f"{EVENTS}?after={after}"))["events"]:
                found, after = found + len(events), page["next"]
            seconds.append(time.process_time() - begun)
        assert found > 2 * number
    assert seconds[1] < 20 * seconds[0]


def test_a_journal_that_cannot_be_read_is_a_gap(durable, monkeypatch):
    monkeypatch.setattr(_feed, "KEPT", 4)
    with durable() as service:
        run(service, *"abcdefgh")
        monkeypatch.setattr(JournalReader, "happened", broken)
        with service.follow("?after=0") as stream:
            assert stream.take(1) == [("events_missed", {})]
        assert service.ask("GET", f"{EVENTS}?after=0").status == 503


def broken(*_):
    from taskorch.errors import JournalUnavailableError

    raise JournalUnavailableError("not now")


# -- the feed --------------------------------------------------------------------------


def test_every_event_is_followed_but_for_reports_and_views():
    left_out = set(SIGNALS) - set(_feed.FOLLOWED)

    assert left_out == {
        "health_reported",
        "performance_reported",
        "question_asked",
        "stats_reported",
        "task_ready",
        "task_routed",
        "task_timed_out",
        "task_validated",
    }


def test_a_feed_hears_nothing_once_it_is_closed():
    orch = orchestrator(journal=MemoryJournal(keep_events=True))
    with orch:
        feed = _feed.Feed(orch.signals, None)
        orch.submit_task(Task("echo")).result()
        orch.wait()
        last = feed.last
        feed.close()
        orch.submit_task(Task("echo")).result()
        orch.wait()

    assert 0 < feed.last == last
