"""The page that shows an orchestrator: what it asks the service for."""

from __future__ import annotations

import itertools
import json
import sys
import threading
from contextlib import suppress
from http.client import HTTPException

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.service.tools import recorded, shown

from taskorch import Program, Task, TaskOrchestrator


def test_a_link_to_the_page_lets_in_once():
    """What a browser keeps of it is no way in, and neither is what others make up."""
    with shown() as service:
        assert service.server.page != service.server.page
        code = service.server.page.partition("#code=")[2]
        said = {"code": code}
        sent = {"Content-Type": "application/json"}

        def change(said):
            body = json.dumps(said).encode()
            return service.send("POST", "/api/v1/page/key", body, sent)

        cookie = change(said).headers["set-cookie"].partition(";")[0]
        name, _, session = cookie.partition("=")
        begun, _, mark = session.rpartition(".")
        for good, status in (
            (session, 200),
            (code, 401),
            (service.token, 401),
            (f"{begun}.{mark[:-1]}", 401),
            (f"0{begun[1:]}.{mark}", 401),
            (f"1.x.{mark}", 401),
            (mark, 401),
            (".", 401),
            ("...", 401),
            ("", 401),
        ):
            headers = {"Cookie": f"{name}={good}"}
            assert service.send("GET", "/api/v1/board", b"", headers).status == status
        for bad in (said, {"code": ""}, {"code": session}, {"code": service.token}):
            assert change(bad).status == 401
        assert change({"cod": code}).status == 422


def test_a_session_goes_on_in_the_next_incarnation_with_the_same_token_and_no_other():
    cookies, port = [], 0
    for token in ("a-token-of-sixteen", "a-token-of-sixteen", "another-of-sixteen"):
        with shown(token=token, port=port) as service:
            port = service.server.port
            if not cookies:
                code = service.server.page.partition("#code=")[2]
                said = json.dumps({"code": code}).encode()
                sent = {"Content-Type": "application/json"}
                answer = service.send("POST", "/api/v1/page/key", said, sent)
                cookies.append(answer.headers["set-cookie"].partition(";")[0])
            headers = {"Cookie": cookies[0]}
            status = service.send("GET", "/api/v1/board", b"", headers).status
            assert status == (401 if token.startswith("another") else 200)


def test_a_page_that_asks_on_does_not_hold_up_the_end_of_its_server(caplog):
    with shown() as service:
        boards = [service.get("/api/v1/board")]

        def ask_on():
            with suppress(OSError, HTTPException):
                while True:
                    asked = "/api/v1/board?wait=20&after={heard}&board={board}"
                    boards.append(service.get(asked.format(**boards[-1])))

        page = threading.Thread(target=ask_on)
        page.start()
        assert service.orch.submit(int).result(PATIENCE) == 0
        eventually(lambda: len(boards) > 1)
    page.join(PATIENCE)
    assert [record.message for record in caplog.records if record.exc_info] == []


def test_what_it_counts_is_what_get_stats_says():
    with shown() as service:
        list(service.orch.map(int, range(50)))
        assert service.orch.wait(PATIENCE)
        numbers = service.orch.get_stats().state_machine
        states = ("pending", "queued", "running", "retrying", "blocked", "suspended")
        states += ("completed", "failed", "cancelled")
        said = {state: getattr(numbers, state) for state in states}
        eventually(
            lambda: service.get("/api/v1/board")["statistics"]["state_machine"] == said
        )


def test_news_end_a_wait_for_it():
    with shown() as service:
        heard = service.ask("GET", "/api/v1/board").said["heard"]
        found = []
        path = f"/api/v1/board?after={heard}&wait=30"
        thread = threading.Thread(
            target=lambda: found.append(service.ask("GET", path).said)
        )
        thread.start()
        service.orch.submit(int).result(PATIENCE)
        thread.join(PATIENCE)
        assert found[0]["heard"] > heard


def test_a_picture_has_as_many_rectangles_as_it_has_room_for():
    """And each attempt is in one of them."""
    with shown(concurrency=4) as service:
        list(service.orch.map(int, range(2_000)))
        assert service.orch.wait(PATIENCE)

        def picture():
            return service.ask("GET", "/api/v1/board/timeline?width=100").said

        eventually(lambda: picture()["attempts"] == 2_000)
        said = picture()
        many = [each[5] for each in said["rectangles"]]
        assert sum(many) == 2_000
        assert len(many) <= 100 * sum(said["rows"])
        for lane, row in itertools.product(range(len(said["agents"])), range(8)):
            ends = [r[2:4] for r in said["rectangles"] if r[:2] == [lane, row]]
            ends.sort()
            assert all(a[1] < b[0] for a, b in itertools.pairwise(ends))


def test_a_long_attempt_is_not_what_a_short_one_beside_it_came_to():
    """Though both begin, or end, in one column of a picture."""
    goes = threading.Event()

    def fail():
        raise ValueError

    with shown(concurrency=2) as service:
        long = service.orch.submit(goes.wait, PATIENCE)
        eventually(lambda: long.status.state == "running")
        service.orch.submit(fail).exception(PATIENCE)
        eventually(lambda: attempts_of(service) == {"running": 1, "failed": 1})
        begin = service.get("/api/v1/board/timeline?width=100")["start"]
        query = f"since={begin}&until={begin + 600}&width=100"
        said = service.get(f"/api/v1/board/timeline?{query}")
        assert sum(each[5] for each in said["rectangles"]) == 2
        said = service.get(f"/api/v1/board/timeline?since={begin}&width=100")
        told = {said["outcomes"][each[4]]: each for each in said["rectangles"]}
        assert told["running"][2:4] == [0, 99]
        assert told["failed"][5] == 1
        goes.set()


def test_an_attempt_that_is_stopped_where_it_stands_goes_on(tmp_path):
    """It is one attempt, which runs until its program ends."""
    go = tmp_path / "go"
    with shown() as service:
        wait = ["sh", "-c", f"until test -e {go}; do sleep 0.02; done"]
        handle = service.orch.submit_task(Task.program(wait, id="p"))
        eventually(lambda: handle.status.state == "running")
        service.orch.suspend_task("p")
        eventually(lambda: handle.status.state == "suspended")
        eventually(lambda: attempts_of(service) == {"running": 1})
        service.orch.resume_task("p")
        go.touch()
        handle.result(PATIENCE)
        eventually(lambda: attempts_of(service) == {"completed": 1})


def attempts_of(service):
    said = service.get("/api/v1/board/timeline?width=100")
    # The board may not have heard of a worker yet.
    counts = map(
        sum, zip(*said["counts"] or [[0] * len(said["outcomes"])], strict=True)
    )
    return {k: n for k, n in zip(said["outcomes"], counts, strict=True) if n}


@pytest.mark.parametrize(
    "query",
    ["width=5", "width=x", "lanes=0", "since=-1", "until=nan", "width=1&width=2"],
)
def test_a_picture_that_cannot_be_is_refused(query):
    with shown() as service:
        answer = service.ask("GET", f"/api/v1/board/timeline?{query}")
        assert answer.status == 400
        assert answer.said["detail"]


HALF = r"""
import sys, time
from pathlib import Path
write = sys.stdout.buffer.write
write("né".encode()[:2]); sys.stdout.flush()
while not Path(sys.argv[1]).exists():
    time.sleep(0.01)
write("né".encode()[2:] + "€".encode() * 70_000 + b"\xe2\x82"); sys.stdout.flush()
"""


def test_a_letter_of_which_half_is_written_is_read_whole_with_the_next_part(tmp_path):
    with shown() as service:

        @service.orch.agent("shell", capabilities={"say"}, executor="program")
        def say(task, context):
            return Program([sys.executable, "-c", HALF, str(tmp_path / "go")])

        def log(after=""):
            return service.ask("GET", f"/api/v1/tasks/s/log{after}").said

        handle = service.orch.submit_task(Task("say", id="s"))
        eventually(lambda: log().get("text") == "n")
        text, end = "n", log()["next"]
        assert (log(f"?after={end}")["text"], log(f"?after={end}")["next"]) == ("", end)
        (tmp_path / "go").touch()
        handle.result(PATIENCE)
        while (part := log(f"?after={end}"))["text"]:
            text, end = text + part["text"], part["next"]
        assert text == "né" + "€" * 70_000
        # Only the end is shown first: it begins with a whole letter, too.
        assert set(log()["text"]) == {"€"}


def test_a_journal_is_shown_while_its_owner_runs_and_can_be_changed_by_nobody(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(int, id="before")).result(PATIENCE)
        with recorded(path) as service:
            heard = service.ask("GET", "/api/v1/board").said
            assert heard["statistics"]["state_machine"]["completed"] == 1
            assert heard["live"] is False
            orch.submit_task(Task.call(int, id="after")).result(PATIENCE)
            eventually(
                lambda: (
                    service.ask("GET", "/api/v1/board").said["statistics"][
                        "state_machine"
                    ]["completed"]
                    == 2
                )
            )
            names = service.ask("GET", "/api/v1/tasks").said["tasks"]
            assert [each["task_id"] for each in names] == ["before", "after"]
            assert service.ask("GET", "/api/v1/tasks/after/result").said["result"] == 0
            assert service.ask("GET", "/api/v1/events").said["events"]
            assert service.ask("POST", "/api/v1/tasks/after/rerun", {}).status in (
                404,
                405,
            )
            assert service.ask("POST", "/api/v1/events", {"name": "x"}).status == 405
