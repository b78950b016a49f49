"""Large values: in an object store, by reference, and the journal says which there are."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.api.tools import PATIENCE, eventually, killed_in_forks
from tests.house.own_journal import LinesJournal
from tests.house.tools.examples import examples

from taskorch import (
    RetryPolicy,
    Task,
    TaskOrchestrator,
    Workflow,
    current_context,
)
from taskorch.api.journal import open_journal, register_file
from taskorch.core.inside import Inside
from taskorch.errors import (
    InvalidTaskError,
    ResultGoneError,
    StoreUnavailableError,
    UnkeptResultError,
)
from taskorch.ext.client import Client
from taskorch.ext.command_line import main
from taskorch.ext.large_values import LargeValue, LargeValues
from taskorch.ext.views import JournalReader
from taskorch.model import Cache

pytest.importorskip("obstore")

#: Letters of a value that is large, and the MB above which it is.
LARGE, KEEP_MB = 5_000, 0.002
CALLS: Counter[str] = Counter()


class Store:
    """A store in memory, which does what it is told: it may fail, wait and lie."""

    def __init__(self, url: str = "memory://double") -> None:
        self.url = url
        self.objects: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        #: By the name of a method, what is done before it does its own.
        self.before: dict[str, Callable[[], object]] = {}
        self.room = 10**9

    def _ask(self, what: str) -> None:
        self.asked[what] += 1
        self.before.get(what, dict)()

    def put(self, key: str, data: bytes) -> None:
        self._ask("put")
        if sum(map(len, self.objects.values())) + len(data) > self.room:
            raise OSError(28, "No space left on device")
        self.objects[key] = data

    def get(self, key: str) -> bytes:
        self._ask("get")
        if key not in self.objects:
            raise FileNotFoundError(key)
        return self.objects[key]

    def list(self, prefix: str) -> Iterable[str]:
        self._ask("list")
        return [key for key in self.objects if key.startswith(f"{prefix}/")]

    def delete(self, keys: Sequence[str]) -> None:
        self._ask("delete")
        for key in keys:
            self.objects.pop(key, None)

    def go_away(self) -> None:
        def away() -> None:
            raise ConnectionError("no route to host")

        self.before = dict.fromkeys(("put", "get", "list", "delete"), away)

    def come_back(self) -> None:
        self.before = {}


@pytest.fixture
def store(request):
    return Store(f"memory://{request.node.name}")


@pytest.fixture
def start(tmp_path, store):
    """Makes an orchestrator of the same journal and store, again and again."""

    def make(grace: float = 0, **fields: Any) -> TaskOrchestrator:
        values = LargeValues(store, keep_mb=KEEP_MB, grace=grace)
        return TaskOrchestrator(
            journal=tmp_path / "runs.db", extensions=[values], **fields
        )

    return make


@dataclass
class Picture:
    title: str
    pixels: bytes


def large(letter: str, size: int = LARGE) -> str:
    CALLS[letter] += 1
    return letter * size


def picture() -> Picture:
    return Picture("dawn", bytes(range(256)) * 20)


def length(value: Any) -> int:
    return len(value)


async def large_in_a_coroutine(letter: str) -> str:
    return letter * LARGE


def one_step(letter: str) -> str:
    made: str = current_context().step("make", large, letter)
    return made[:1]


def two_steps(letter: str) -> str:
    context = current_context()
    made = context.step("make", large, letter)
    context.step("check", check, len(made))
    return made[:1]


def check(size: int) -> int:
    CALLS["check"] += 1
    if CALLS["check"] == 1:
        raise OSError("the first time it fails")
    return size


@pytest.fixture(autouse=True)
def _no_calls():
    CALLS.clear()


def run(orch: TaskOrchestrator, *args: Any, name: str, **options: Any) -> Any:
    task = Task.call(*args, id=name, **options)
    return orch.submit_task(task).result(PATIENCE)


def rows(tmp_path: Path) -> str:
    """All that the journal has, as text."""
    journal = open_journal(tmp_path / "runs.db")
    try:
        return "\n".join(row[5] for row in journal.rows())
    finally:
        journal.close()


# -- where values are ------------------------------------------------------------------


def test_a_large_result_is_in_the_store_and_the_journal_names_it(
    start, store, tmp_path
):
    with start() as orch:
        assert run(orch, large, "a", name="big") == "a" * LARGE
        assert run(orch, large, "b", 100, name="small") == "b" * 100
    (key,) = store.objects
    assert json.loads(store.objects[key]) == "a" * LARGE
    text = rows(tmp_path)
    assert key in text
    assert "aaa" not in text
    assert "bbb" in text
    with start() as orch:
        assert orch.handle("big").result(PATIENCE) == "a" * LARGE
        assert orch.handle("small").result(PATIENCE) == "b" * 100
    assert CALLS == {"a": 1, "b": 1}


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_just_above_the_limit_it_goes_to_the_store(start, store, more):
    # A text has two quotation marks more in a document.
    size = int(KEEP_MB * 1e6) - 2 + more
    with start() as orch:
        run(orch, large, "a", size, name="edge")
    assert len(store.objects) == (more > 0)
    with start() as orch:
        assert orch.handle("edge").result(PATIENCE) == "a" * size


@pytest.mark.parametrize("kind", ["folder", "file", "memory"])
def test_stores_of_obstore(tmp_path, kind):
    folder = tmp_path / "some values"
    place = {
        "folder": folder,
        "file": folder.as_uri(),
        "memory": "memory:///test_stores_of_obstore",
    }[kind]

    def orchestrator() -> TaskOrchestrator:
        values = LargeValues(place, keep_mb=KEEP_MB, grace=0)
        return TaskOrchestrator(journal=tmp_path / "runs.db", extensions=[values])

    with orchestrator() as orch:
        run(orch, picture, name="dawn")
    assert "pixels" not in rows(tmp_path)
    with orchestrator() as orch:
        assert orch.handle("dawn").result(PATIENCE) == picture()
        orch.prune(older_than=0)
        swept = orch.extensions[LargeValues].sweep()
        assert (swept.deleted, swept.kept) == (1, 0)
        assert orch.extensions[LargeValues].sweep().deleted == 0
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_in_postgresql(postgres, store):
    address = postgres.address("values")

    def orchestrator() -> TaskOrchestrator:
        values = LargeValues(store, keep_mb=KEEP_MB, grace=0)
        return TaskOrchestrator(journal=address, extensions=[values])

    with orchestrator() as orch:
        run(orch, large, "a", name="one")
        run(orch, large, "b", name="two")
    with orchestrator() as orch:
        assert orch.handle("one").result(PATIENCE) == "a" * LARGE
        assert orch.extensions[LargeValues].sweep().deleted == 0
        orch.prune(keep_latest=1)
        assert orch.extensions[LargeValues].sweep().deleted == 1
        assert orch.handle("two").result(PATIENCE) == "b" * LARGE
    assert len(store.objects) == 1


class NamelessJournal(LinesJournal):
    """Does not say which journal it is."""

    def identity(self) -> str:
        return ""


def test_in_a_journal_of_ones_own(tmp_path, store):
    def orchestrator(cls: type[LinesJournal]) -> TaskOrchestrator:
        values = LargeValues(store, keep_mb=KEEP_MB, grace=0)
        return TaskOrchestrator(journal=cls(tmp_path / "lines"), extensions=[values])

    with orchestrator(LinesJournal) as orch:
        run(orch, large, "a", name="one")
    (key,) = store.objects
    store.objects[f"{key[:-4]}gone"] = b"?"
    with orchestrator(LinesJournal) as orch:
        assert orch.handle("one").result(PATIENCE) == "a" * LARGE
        assert orch.extensions[LargeValues].sweep().deleted == 1
    with orchestrator(NamelessJournal) as orch:
        run(orch, large, "b", name="two")
        assert "no identity()" in str(orch.health())
        assert orch.extensions[LargeValues].sweep().deleted == 0
    assert [*store.objects] == [key]


def test_what_comes_after_it_reads_it_in_a_later_incarnation(start, store):
    with start() as orch:
        run(orch, large, "a", name="big")
    with start() as orch:
        after = [
            orch.submit_task(Task.call(length, orch.handle("big"), id=f"n{n}"))
            for n in range(3)
        ]
        assert [each.result(PATIENCE) for each in after] == [LARGE] * 3


def test_results_of_a_run_are_read_without_the_lock(start, store):
    flow = Workflow("night")
    flow.add(Task.call(large, "a", id="one"))
    flow.add(Task.call(large, "b", id="two"))
    with start() as orch:
        orch.workflows.start(flow, id="night").result(PATIENCE)
    with start() as orch:
        # A store that asks the orchestrator: that would never end under its lock.
        store.before["get"] = orch.get_stats
        found = orch.workflows.start(flow, id="night").result(PATIENCE)
        assert found == {"one": "a" * LARGE, "two": "b" * LARGE}
    assert CALLS == {"a": 1, "b": 1}


def test_a_step_keeps_its_large_result_there(start, store):
    again = RetryPolicy(2, base=0.001)
    with start() as orch:
        assert run(orch, two_steps, "s", name="steps", retry=again) == "s"
    # It failed after the first step, whose result was read back.
    assert CALLS == {"s": 1, "check": 2}
    assert store.asked["get"] == 1
    assert len(store.objects) == 1


def test_a_step_that_cannot_be_read_is_asked_for_again_and_not_called(start, store):
    def hold() -> None:
        if store.asked["get"] <= 2:
            raise ConnectionError("no route to host")

    store.before["get"] = hold
    again = RetryPolicy(5, base=0.001)
    with start() as orch:
        assert run(orch, two_steps, "s", name="steps", retry=again) == "s"
        assert orch.get_task_status("steps").attempts == 4
    assert CALLS["s"] == 1


def test_asked_for_again_in_one_attempt_it_is_the_same_step(start, store):
    with start() as orch:

        def away_once() -> None:
            if store.asked["get"] == 1:
                raise ConnectionError("no route to host")

        store.before["get"] = away_once
        again = RetryPolicy(2, base=0.001)
        assert run(orch, stubborn, name="steps", retry=again) == "s"
        assert orch.get_task_status("steps").attempts == 2
    assert CALLS["s"] == 1
    assert store.asked["get"] == 2


def stubborn() -> str:
    context = current_context()
    try:
        made = context.step("make", large, "s")
    except StoreUnavailableError:
        made = context.step("make", large, "s")
    if context.attempt == 1:
        raise OSError("the first time it fails")
    return made[:1]


@pytest.mark.parametrize("executor", [None, "process"])
def test_a_cached_result_is_used_again_in_a_later_incarnation(start, store, executor):
    cached = {"cache": Cache(), "executor": executor}
    one = {"executors": {"process": 1}}
    with start(**one) as orch:
        run(orch, length_of_many, "a", name="one", **cached)
    with start(**one) as orch:
        assert run(orch, length_of_many, "a", name="two", **cached) == "a" * LARGE
        assert "hit" in str(orch.explain("two"))
        store.go_away()
    with start(**one) as orch:
        # What cannot be read is made again.
        assert run(orch, length_of_many, "a", name="three", **cached) == "a" * LARGE


def length_of_many(letter: str) -> str:
    return letter * LARGE


def test_sweeps_come_by_themselves(tmp_path, store):
    values = LargeValues(store, keep_mb=KEEP_MB, grace=0, sweep_every=0.05)
    with TaskOrchestrator(journal=tmp_path / "runs.db", extensions=[values]) as orch:
        run(orch, large, "a", name="one")
        store.go_away()
        asked = store.asked["list"]
        eventually(lambda: store.asked["list"] > asked + 1)
        store.come_back()
        orch.prune(older_than=0)
        eventually(lambda: not store.objects)


def test_coroutines_and_awaits(start, store):
    async def incarnation() -> None:
        went_on = threading.Event()

        def held() -> None:
            assert went_on.wait(PATIENCE), "the loop was held up"

        async with start() as orch:
            store.before["get"] = held
            waiting = asyncio.ensure_future(ask(orch))
            # The loop is not held up while the store is asked.
            await asyncio.to_thread(eventually, lambda: store.asked["get"])
            went_on.set()
            assert await waiting == "a" * LARGE
            assert await orch.handle("big") == "a" * LARGE
        assert store.asked["get"] == 1

    async def ask(orch: TaskOrchestrator) -> str:
        return await orch.handle("big")

    with start() as orch:
        run(orch, large, "a", name="big")
    asyncio.run(incarnation())


def test_equal_values_are_one_object(start, store):
    with start() as orch:
        for n in range(3):
            run(orch, large, "a", name=f"n{n}")
    assert len(store.objects) == 1


def test_it_is_asked_for_nothing_while_tasks_are_small(start, store):
    with start() as orch:
        for n in range(20):
            run(orch, length, "abc", name=f"n{n}")
    assert not store.asked


# -- what is shown ---------------------------------------------------------------------


def test_lists_and_explanations_say_where_it_is_and_read_nothing(
    start, store, tmp_path, capsys
):
    with start() as orch:
        run(orch, large, "a", name="big")
    where = f"5.0 kB in {store.url} (sha256 "
    main(["inspect", str(tmp_path / "runs.db"), "big"])
    assert f"result     {where}" in capsys.readouterr().out
    main(["inspect", str(tmp_path / "runs.db")])
    reader = JournalReader(tmp_path / "runs.db")
    assert str(reader.get_task_status("big").result).startswith(where)
    with start() as orch, orch.serve(port=0) as server:
        status = orch.get_task_status("big")
        assert isinstance(status.result, LargeValue)
        assert status.error is None
        assert status.result.size == LARGE + 2
        assert f"Its result: it is {where}" in str(orch.explain("big"))
        client = Client(server.url, token=server.token)
        (told,) = client.tasks()
        assert where in str(told["result"])
        (listed,) = orch.tasks()
        assert listed.task_id == "big"
        assert not store.asked["get"]
        # Whoever asks for it gets it, here and over HTTP.
        assert client.result("big") == "a" * LARGE
        assert store.asked["get"] == 1


# -- a store that does not do what it should -------------------------------------------


@pytest.mark.parametrize("how", ["away", "full"])
def test_the_journal_has_what_the_store_does_not_take(start, store, how, caplog):
    if how == "away":
        store.go_away()
    else:
        store.room = 0
    with start() as orch:
        assert run(orch, large, "a", name="one") == "a" * LARGE
        run(orch, large, "b", name="two")
        health = {each.component: each for each in orch.health().checks}
        told = health["extension large_values"]
        assert told.status == "degraded"
        assert store.url in told.detail
        assert "the journal has 2 values in its place" in told.detail
    assert store.url in caplog.text
    # It is not asked again at once for each of them.
    assert store.asked["put"] == 1
    with TaskOrchestrator(journal=orch.journal.path) as orch:
        assert orch.handle("one").result(PATIENCE) == "a" * LARGE
        assert orch.handle("two").result(PATIENCE) == "b" * LARGE
    store.come_back()
    store.room = 10**9
    with start() as orch:
        run(orch, large, "c", name="three")
        assert orch.health().checks[-1].status == "ok"
    assert len(store.objects) == 1


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, InvalidTaskError])
def test_what_an_extension_raises_loses_no_result(tmp_path, error, caplog):
    def keeping(text_of: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def text(value: Any) -> Any:
            del value
            raise error("of its own")

        return text

    journal = tmp_path / "runs.db"
    with TaskOrchestrator(journal=journal) as orch:
        Inside(orch).keep_values_by(keeping)
        assert run(orch, large, "a", name="one") == "a" * LARGE
        with pytest.raises(UnkeptResultError):
            run(orch, object, name="two")
        assert orch.health().live
    assert ("elsewhere raised" in caplog.text) == (error is not InvalidTaskError)
    with TaskOrchestrator(journal=journal) as orch:
        assert orch.handle("one").result(PATIENCE) == "a" * LARGE


def test_while_a_store_is_slow_others_go_on(start, store):
    began, go = threading.Event(), threading.Event()

    def slow() -> None:
        began.set()
        assert go.wait(PATIENCE)

    store.before["put"] = slow
    with start() as orch:
        handle = orch.submit_task(Task.call(large, "a", id="big"))
        assert began.wait(PATIENCE)
        assert run(orch, length, "abc", name="small") == 3
        assert not orch.get_task_status("big").is_terminal
        go.set()
        assert handle.result(PATIENCE) == "a" * LARGE


@pytest.fixture
def mute(store, monkeypatch):
    """Makes the store hear no request of a kind until the test ends or lets it go."""
    go = threading.Event()

    def make(what: str, patience: float = 600.0) -> threading.Event:
        monkeypatch.setattr("taskorch.ext.large_values._PATIENCE", patience)
        store.before[what] = lambda: go.wait(PATIENCE)
        return go

    yield make
    go.set()


def test_an_attempt_ends_when_its_function_has_returned(start, store, mute):
    """Its slot and resources are free, and the task ends once its value is kept."""
    go = mute("put")
    needs = {"resources": {"cpu": 1}, "writes": ["out"]}
    with start(concurrency=1, resources={"cpu": 1}) as orch:
        big = orch.submit_task(Task.call(large, "a", id="big", **needs))
        assert orch.submit_task(Task.call(length, "abc", **needs)).result(PATIENCE) == 3
        eventually(lambda: store.asked["put"])
        (blocker,) = orch.explain("big").blockers
        assert (blocker.kind, orch.stuck()) == ("store", ())
        assert orch.get_task_status("big").state.value == "running"
        go.set()
        assert big.result(PATIENCE) == "a" * LARGE
    assert len(store.objects) == 1


def test_values_of_coroutines_do_not_hold_up_their_loop(start, store, mute):
    go = mute("put")

    with start() as orch:
        handle = orch.submit_task(Task.call(large_in_a_coroutine, "b", id="big"))
        eventually(lambda: store.asked["put"])
        assert orch.submit(asyncio.sleep, 0, 3).result(PATIENCE) == 3
        assert not handle.done()
        go.set()
        assert handle.result(PATIENCE) == "b" * LARGE


@pytest.mark.parametrize("how", ["attempt", "step"])
def test_the_journal_has_what_a_silent_store_does_not_take(start, store, mute, how):
    mute("put", patience=0.01)
    with start() as orch:
        if how == "step":
            assert run(orch, one_step, "a", name="big") == "a"
        else:
            assert run(orch, large, "a", name="big") == "a" * LARGE
        told = {each.component: each for each in orch.health().checks}
        detail = told["extension large_values"].detail
        assert "the store has not answered within" in detail
    assert not store.objects


def test_a_value_on_its_way_at_the_end_is_kept_by_the_journal(start, store, mute):
    """The function is not called again for a store that is silent."""
    mute("put")
    CALLS.clear()
    orch = start()
    orch.start()
    orch.submit_task(Task.call(large, "z", id="big"))
    eventually(lambda: store.asked["put"])
    assert orch.stop(drain=False).left == ()
    with start() as orch:
        assert orch.handle("big").result(PATIENCE) == "z" * LARGE
    assert CALLS["z"] == 1


def test_a_task_is_cancelled_while_its_value_is_on_its_way(start, store, mute):
    go = mute("put")
    with start() as orch:
        handle = orch.submit_task(Task.call(large, "a", id="big"))
        eventually(lambda: orch.explain("big").blockers)
        assert handle.cancel()
        assert handle.cancelled()
        go.set()
        orch.wait()
        assert orch.get_task_status("big").state.value == "cancelled"


#: What shows tasks, of the orchestrator.
LOOKS = {
    "tasks": lambda orch: orch.tasks(),
    "status": lambda orch: orch.get_task_status("big"),
    "explain": lambda orch: str(orch.explain("big")),
    "health": lambda orch: orch.health(),
    "stats": lambda orch: orch.get_stats(),
    "failures": lambda orch: orch.failures(),
    "stuck": lambda orch: orch.stuck(),
    "report": lambda orch: orch.workflows.get("w").report().to_dict(),
    "steps": lambda orch: str(orch.steps.of("stepped")),
    "when": lambda orch: orch.when("big"),
}
#: Those over HTTP that are no look: they read the value, or have no end.
NO_LOOKS = re.compile(r"/result$|/stream$|/artifacts/|/plans/|/doctor$")


def test_no_look_waits_for_a_store(start, store, mute):
    """Whoever asks for the value itself waits, and takes nobody's thread."""
    wf = Workflow("w")
    wf.task(large, "b", id="in_a_run")
    with start() as orch:
        run(orch, large, "a", name="big")
        run(orch, length, "abc", name="small")
        run(orch, one_step, "c", name="stepped")
        orch.workflows.start(wf, id="w").result(PATIENCE)
    store.asked.clear()
    go = mute("get")
    with start() as orch, orch.serve(port=0) as server:
        headers = {"Authorization": f"Bearer {server.token}"}

        def get(path: str) -> Any:
            asked = Request(f"{server.url}{path}", headers=headers)
            try:
                with urlopen(asked, timeout=PATIENCE) as response:
                    return response.read()
            except HTTPError as refused:
                # Some things are not there, such as a log.
                return str(refused.code).encode()

        paths = [
            path.replace("{task_id}", "big").replace("{run_id}", "w")
            for path, asked in json.loads(get("/openapi.json"))["paths"].items()
            if "get" in asked and not NO_LOOKS.search(path)
        ]
        looks = {path: partial(get, path) for path in paths if "{" not in path}
        assert {"/livez", "/api/v1/tasks", "/api/v1/runs/w"} < looks.keys()
        looks |= {name: partial(look, orch) for name, look in LOOKS.items()}
        for name, look in looks.items():
            assert look() != b"503", name
            assert not store.asked["get"], name
        values: list[bytes] = []
        readers = [
            threading.Thread(
                target=lambda: values.append(get("/api/v1/tasks/big/result"))
            )
            for _ in range(12)
        ]
        for reader in readers:
            reader.start()
        eventually(lambda: store.asked["get"])
        for name in ("/livez", "/readyz", "/api/v1/tasks", "/api/v1/board", *LOOKS):
            looks[name]()
        assert not values
        go.set()
        for reader in readers:
            reader.join(PATIENCE)
        assert len(values) == len(readers)
        assert all(b"aaa" in value for value in values)


def test_a_value_that_is_not_read_is_said_to_be_so(start, store, mute):
    """It is unknown, and not wrong: the task has completed, and its value is there."""
    with start() as orch:
        run(orch, large, "a", name="big")
    go = mute("get", patience=0.01)
    with start() as orch, orch.serve(port=0) as server:
        said = "is not read: the store has not answered within 0.015 s"
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match=said):
                orch.handle("big").result(PATIENCE)
        client = Client(server.url, token=server.token)
        with pytest.raises(StoreUnavailableError, match=said):
            client.result("big")
        assert orch.get_task_status("big").state.value == "completed"
        go.set()
        mute("get")
        assert client.result("big") == "a" * LARGE


def test_a_store_that_is_away_loses_nothing_and_changes_nothing(start, store):
    with start() as orch:
        run(orch, large, "a", name="big")
    with start() as orch:
        store.go_away()
        for _ in range(2):
            with pytest.raises(StoreUnavailableError) as caught:
                orch.handle("big").result(PATIENCE)
            assert store.url in str(caught.value)
            assert "no route to host" in str(caught.value)
            assert "ask again" in str(caught.value.hint)
        assert orch.get_task_status("big").state.value == "completed"
        assert orch.get_task_status("big").error is None
        with pytest.raises(StoreUnavailableError):
            orch.extensions[LargeValues].sweep()
        store.come_back()
        assert orch.handle("big").result(PATIENCE) == "a" * LARGE


def test_what_needs_it_is_tried_again_by_its_policy(start, store):
    with start() as orch:
        run(orch, large, "a", name="big")
    with start() as orch:

        def away_twice() -> None:
            if store.asked["get"] <= 2:
                raise ConnectionError("no route to host")

        store.before["get"] = away_twice
        task = Task.call(
            length, orch.handle("big"), id="next", retry=RetryPolicy(3, base=0.001)
        )
        assert orch.submit_task(task).result(PATIENCE) == LARGE
        assert orch.get_task_status("next").attempts == 3


@pytest.mark.parametrize("harm", ["gone", "other", "shorter", "empty"])
def test_a_wrong_value_is_never_given(start, store, harm):
    with start() as orch:
        run(orch, large, "a", name="big")
    (key,) = store.objects
    right = store.objects.pop(key)
    wrong = {
        "other": right.replace(b"a", b"b"),
        "shorter": right[:-2] + b'"',
        "empty": b"",
    }
    if harm in wrong:
        store.objects[key] = wrong[harm]
    with start() as orch:
        with pytest.raises(ResultGoneError) as caught:
            orch.handle("big").result(PATIENCE)
        for part in (store.url, key, "run the task again"):
            assert part in str(caught.value)
        assert isinstance(orch.handle("big").exception(PATIENCE), ResultGoneError)
        # Once it is restored, it is given.
        store.objects[key] = right
        assert orch.handle("big").result(PATIENCE) == "a" * LARGE


# -- what is released ------------------------------------------------------------------


def test_a_sweep_deletes_nothing_of_others(start, store):
    with start() as orch:
        run(orch, large, "a", name="one")
        (key,) = store.objects
        mine = key.partition("/")[0]
        # Of another journal, of an incarnation that is to come, and of nobody who is
        # known.
        others = ["elsewhere/1/abc", "readme.txt", f"{mine}/notes"]
        others += [f"{mine}/99/abc", f"{mine}/1/sub/abc", f"{mine}x/1/abc"]
        store.objects |= dict.fromkeys(others, b"?")
        orch.prune(older_than=0)
        assert orch.extensions[LargeValues].sweep().deleted == 1
    assert {*store.objects} == {*others}


def test_the_last_task_that_has_it_releases_it(start, store):
    with start() as orch:
        run(orch, large, "a", name="one")
        run(orch, large, "a", name="two")
        orch.prune(keep_latest=1)
        assert orch.extensions[LargeValues].sweep().deleted == 0
        assert len(store.objects) == 1
    with start() as orch:
        (left,) = orch.tasks()
        assert orch.handle(left.task_id).result(PATIENCE) == "a" * LARGE
        orch.prune(older_than=0)
        assert orch.extensions[LargeValues].sweep(dry_run=True).deleted == 1
        assert len(store.objects) == 1
        assert orch.extensions[LargeValues].sweep().deleted == 1
    assert not store.objects


def test_what_was_put_a_moment_ago_stays(start, store):
    with start(grace=3600) as orch:
        run(orch, large, "a", name="one")
        orch.prune(older_than=0)
        assert orch.extensions[LargeValues].sweep().deleted == 0
    assert len(store.objects) == 1
    with start(grace=3600) as orch:
        # The incarnation that could name it is over.
        assert orch.extensions[LargeValues].sweep().deleted == 1


def test_what_is_put_while_it_is_deleted_is_there_afterwards(start, store):
    """Two tasks with one value: one has left, and the other ends just then."""
    with start() as orch:
        run(orch, large, "a", name="one")
        orch.prune(older_than=0)
        comes = threading.Event()

        def meanwhile() -> None:
            store.before.clear()
            handles.append(orch.submit_task(Task.call(large, "a", id="two")))
            # It may have to wait until what is deleted just now is gone.
            comes.wait(0.2)

        handles: list[Any] = []
        store.before["delete"] = meanwhile
        store.before["put"] = comes.set
        assert orch.extensions[LargeValues].sweep().deleted == 1
        assert handles[0].result(PATIENCE) == "a" * LARGE
    with start() as orch:
        assert orch.handle("two").result(PATIENCE) == "a" * LARGE


@pytest.mark.parametrize("grace", [0, 3600])
def test_what_is_put_while_the_list_is_made_stays(start, store, grace):
    with start(grace=grace) as orch:
        run(orch, large, "a", name="one")
        orch.prune(older_than=0)

        def meanwhile() -> None:
            store.before.clear()
            run(orch, large, "a", name="two")

        store.before["list"] = meanwhile
        orch.extensions[LargeValues].sweep()
    with start() as orch:
        assert orch.handle("two").result(PATIENCE) == "a" * LARGE


def test_over_http_too(start, store):
    with start() as orch, orch.serve(port=0) as server:
        client = Client(server.url, token=server.token)
        run(orch, large, "a", name="one")
        orch.prune(older_than=0)
        found = client.call("large_values.sweep", dry_run=False)
        assert found == {"deleted": 1, "kept": 0, "dry_run": False}


# -- kills -----------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys
from pathlib import Path
from taskorch import Task, TaskOrchestrator
from taskorch.ext.large_values import LargeValues, _store_at

where = ""

class Deadly:
    def __init__(self, store):
        self.store, self.url = store, store.url
    def put(self, key, data):
        self.die("before put")
        self.store.put(key, data)
        self.die("after put")
    def get(self, key):
        return self.store.get(key)
    def list(self, prefix):
        return self.store.list(prefix)
    def delete(self, keys):
        self.die("before delete")
        self.store.delete(keys[:1])
        self.die("within delete")
        self.store.delete(keys)
    def die(self, place):
        if place == where:
            os.kill(os.getpid(), signal.SIGKILL)

def large(letter):
    return letter * 5_000

def orchestrator(folder):
    store = Deadly(_store_at((folder / "values").as_uri()))
    values = LargeValues(store, keep_mb=0.002, grace=0)
    return TaskOrchestrator(journal=folder / "runs.db", extensions=[values])

def live(folder):
    with orchestrator(folder) as orch:
        for letter in "abc":
            orch.submit_task(Task.call(large, letter, id=letter))
        orch.wait()
        orch.prune(keep_latest=1)
        orch.extensions[LargeValues].sweep()
        left = [each.task_id for each in orch.tasks()]
        return [orch.handle(n).result(60) == large(n) for n in left]
"""
PLACES = ["before put", "after put", "before delete", "within delete"]


def test_killed_anywhere_nothing_is_lost_and_nothing_is_left(tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(PROGRAM)
    killed_in_forks(tmp_path, "program.where = place", PLACES)
    monkeypatch.syspath_prepend(tmp_path)
    program = importlib.import_module("program")
    for place in PLACES:
        assert program.live(tmp_path / place) == [True]
        files = (tmp_path / place / "values").rglob("*")
        assert sum(path.is_file() for path in files) == 1
    del sys.modules["program"]


# -- a random world --------------------------------------------------------------------

SIZES = st.sampled_from([10, 1_990, 1_998, 1_999, 2_500, LARGE])
ACTS = st.one_of(
    st.tuples(st.just("run"), st.sampled_from("abc"), SIZES),
    st.tuples(st.just("prune"), st.integers(0, 4)),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("restart")),
    st.tuples(st.just("away")),
    st.tuples(st.just("back")),
    st.tuples(st.just("read")),
    st.tuples(st.just("orphan")),
)


class World:
    """What each task returned, as long as the journal has it, and what really is."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "runs.db"
        self.store = Store(f"memory://{folder.name}")
        self.returned: dict[str, str] = {}
        self.count = 0
        self.begin()

    def begin(self) -> None:
        values = LargeValues(self.store, keep_mb=KEEP_MB, grace=0)
        self.orch = TaskOrchestrator(journal=self.path, extensions=[values])
        self.orch.start()

    def run(self, letter: str, size: int) -> None:
        self.count += 1
        name = f"t{self.count:02}"
        self.returned[name] = run(self.orch, large, letter, size, name=name)

    def prune(self, latest: int) -> None:
        self.orch.prune(keep_latest=latest)
        there = {each.task_id for each in self.orch.tasks()}
        assert len(there) == min(latest, len(self.returned))
        self.returned = {n: each for n, each in self.returned.items() if n in there}

    def restart(self) -> None:
        self.orch.stop()
        self.begin()

    def away(self) -> None:
        self.store.go_away()

    def back(self) -> None:
        self.store.come_back()

    def orphan(self) -> None:
        """Leave what an earlier incarnation has put, and died."""
        prefix = next(iter(self.store.objects), "").rpartition("/")[0]
        if prefix:
            self.store.objects[f"{prefix}/left"] = b"?"

    def sweep(self) -> None:
        if not self.store.before:
            self.orch.extensions[LargeValues].sweep()
            self.read()

    def read(self) -> None:
        if not self.store.before:
            for name, value in self.returned.items():
                assert self.orch.handle(name).result(PATIENCE) == value

    def check(self) -> None:
        """
        Read all in a new incarnation, and see that nothing else is left after a sweep.
        """
        self.back()
        self.restart()
        self.sweep()
        self.restart()
        self.read()
        self.orch.stop()
        held = {each for each in self.returned.values() if len(each) + 2 > 2_000}
        # What the store did not take is in the journal, and so there may be less.
        assert {json.loads(each) for each in self.store.objects.values()} <= held


@settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(acts=st.lists(ACTS, min_size=3, max_size=14))
def test_a_world_of_values_prunings_and_lives(tmp_path_factory, acts):
    world = World(tmp_path_factory.mktemp("world"))
    for act, *told in acts:
        getattr(world, act)(*told)
    world.check()


# -- what cannot be --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store_of", "said"),
    [
        ("ftp://host/x", "there is no kind of store 'ftp'"),
        ("s3://key:secret@bucket", "may be a secret"),
        ("az://container?sig=secret", "may be a secret"),
        ("", "an address or a folder is needed"),
        (7, "an address or a folder is needed, not 7"),
    ],
)
def test_no_such_store(store_of, said):
    with pytest.raises(InvalidTaskError) as caught:
        LargeValues(store_of)
    assert said in str(caught.value)
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize("much", [-1, "1", None, True, 101, float("nan")])
def test_no_number_of_mb(store, much):
    with pytest.raises(InvalidTaskError, match="keep_mb"):
        LargeValues(store, keep_mb=much)


def test_without_a_journal_nothing_could_name_them(store):
    with pytest.raises(InvalidTaskError, match="durable journal"):
        TaskOrchestrator(extensions=[LargeValues(store)])


def test_a_file_beside_the_journal_stays_with_it(start, store, tmp_path):
    # For this process, under a name that no other test has.
    register_file(Table, save, load, suffix=".txt", name="a table in a store")
    with start() as orch:
        run(orch, with_a_table, name="both")
    assert not store.objects
    with start() as orch:
        assert orch.handle("both").result(PATIENCE)[1].rows == ["x"]


class Table:
    """Is kept in a file beside the journal."""

    def __init__(self, rows: list[str]) -> None:
        self.rows = rows


def save(table: Table, path: str) -> None:
    Path(path).write_text("\n".join(table.rows), encoding="utf-8")


def load(path: str) -> Table:
    return Table(Path(path).read_text(encoding="utf-8").split("\n"))


def with_a_table() -> list[Any]:
    return ["a" * LARGE, Table(["x"])]


def raises_much() -> None:
    raise ValueError("why " * LARGE)


def test_what_tells_of_an_error_stays_in_the_journal(start, store):
    with start() as orch:
        error = orch.submit_task(Task.call(raises_much, id="x")).exception(PATIENCE)
        assert isinstance(error, ValueError)
    assert not store.objects
    with start() as orch:
        assert "why why" in str(orch.handle("x").exception(PATIENCE))


# -- what the library of the stores is given -------------------------------------------

#: Options that it has, and others; and values that it expects nowhere.
OPTIONS = st.sampled_from(
    ["allow_http", "region", "aws_region", "endpoint", "timeout", "x", "", "aws_", "ä"]
)
ODD = st.sampled_from(["true", "", "x", None, 1, -1, 1e400, True, b"x", [], {"a": 1}])
GROUPS = st.sampled_from(["client_options", "retry_config", "credential_provider"])


@settings(max_examples=examples(200), deadline=None)
@given(
    st.sampled_from(["s3://bucket/x", "gs://bucket/x", "az://bucket/x", "s3://"]),
    st.dictionaries(OPTIONS, ODD, max_size=2),
    st.dictionaries(GROUPS, ODD | st.dictionaries(OPTIONS, ODD, max_size=2)),
)
def test_options_are_taken_or_refused_with_what_is_to_be_given(url, some, grouped):
    """The library panics at some, which is no error of Python's."""
    with suppress(InvalidTaskError):
        LargeValues(url, options={**some, **grouped})


def test_an_option_of_the_connection_is_refused_where_it_does_not_belong():
    with pytest.raises(InvalidTaskError, match="'allow_http': True"):
        LargeValues("s3://bucket/x", options={"allow_http": "true"})


@pytest.mark.parametrize("store", [Store(), "memory://", "folder"])
def test_a_store_without_options_refuses_them(store, tmp_path):
    store = tmp_path if store == "folder" else store
    with pytest.raises(InvalidTaskError, match=r"options: .* takes none"):
        LargeValues(store, options={"region": "x"})


class Panic(BaseException):
    """What the library raises where it has found a fault of its own."""


def panics(*_):
    raise Panic


def test_a_panic_of_the_library_is_trouble_of_the_store(tmp_path, monkeypatch):
    import obstore

    journal = tmp_path / "runs.db"
    values = LargeValues("memory://", keep_mb=KEEP_MB, sweep_every=None)
    with TaskOrchestrator(journal=journal, extensions=[values]) as orch:
        kept = orch.submit_task(Task.call(pow, 10, LARGE, id="kept"))
        kept.result(PATIENCE)
        for method in ("put", "get", "list", "delete"):
            monkeypatch.setattr(obstore, method, panics)
        late = orch.submit_task(Task.call(pow, 10, LARGE + 1, id="late"))
        assert late.result(PATIENCE) == 10 ** (LARGE + 1)
        with pytest.raises(StoreUnavailableError, match="Panic"):
            orch.large_values.sweep()
