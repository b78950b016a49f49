"""
Values in a durable journal, from one incarnation to the next, as a user's script has
them.
"""

import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Recorder

from taskorch import (
    DuplicateTaskError,
    InvalidTaskError,
    Task,
    TaskOrchestrator,
    TaskState,
    current_context,
)
from taskorch.api.journal import SqliteJournal, register_file
from taskorch.core.journal._beside import BY_CLASS, BY_NAME
from taskorch.core.journal._values import refused_result
from taskorch.errors import ResultGoneError

#: A script; what it prints tells whether it was all there.
SCRIPT = """
    import sys
    from dataclasses import dataclass, field
    from datetime import date, timedelta
    from decimal import Decimal
    from enum import Enum
    from pathlib import Path
    from typing import NamedTuple

    from taskorch import RetryPolicy, Task, TaskOrchestrator, current_context
    from taskorch.api.journal import register

    class Colour(Enum):
        RED = 1

    class Place(NamedTuple):
        city: str
        size: Decimal = Decimal("1.50")

    @dataclass(frozen=True)
    class Order:
        day: date
        place: Place
        colours: set = field(default_factory=set)

    class Money:
        def __init__(self, cents):
            self.cents = cents
        def __repr__(self):
            return f"Money({self.cents})"

    register(Money, lambda money: money.cents, Money)
    GIVEN = Order(date(2026, 1, 2), Place("Bern"), {Colour.RED})

    def price(order, *, discount):
        context = current_context()
        if context.attempt == 1:
            context.checkpoint([order, discount])
            raise OSError
        assert context.restored == [order, discount], context.restored
        assert order == GIVEN and type(order.place) is Place, order
        print("priced")
        return {order.place: (Money(3), timedelta(days=1), Path("a/b"))}

    def show(priced, said):
        print("shown", priced, said)
        return priced

    with TaskOrchestrator(journal="runs.db", durability="process") as orch:
        @orch.agent("shop", capabilities={"order"})
        def shop(task, context):
            assert task.payload == [GIVEN] and task.metadata == {"of": GIVEN.place}
            return task.payload[0]

        metadata = {"of": GIVEN.place}
        task = Task("order", [GIVEN], id="order", metadata=metadata)
        order = orch.submit_task(task)
        retry = RetryPolicy(2, base=0)
        priced = orch.submit_task(
            Task.call(price, order, kwargs={"discount": 1 + 2j}, id="p", retry=retry)
        )
        said = Task.wait_for("said", id="said", timeout=60, default=GIVEN)
        said = orch.submit_task(said)
        orch.emit("said", [GIVEN])
        shown = orch.submit_task(Task.call(show, priced, said, id="show"))
        print(shown.result(), said.result() == [GIVEN])
"""


def run(script: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-B", script.name],
        cwd=script.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_script_has_its_values_again_when_it_runs_again(tmp_path: Path) -> None:
    """Its own classes too: payload, argument, result, checkpoint, event, metadata."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    shown = (
        "{Place(city='Bern', size=Decimal('1.50')): (Money(3), "
        "datetime.timedelta(days=1), PosixPath('a/b'))}"
    )
    said = (
        "[Order(day=datetime.date(2026, 1, 2), place=Place(city='Bern', "
        "size=Decimal('1.50')), colours={<Colour.RED: 1>})]"
    )
    assert run(script) == f"priced\nshown {shown} {said}\n{shown} True\n"
    assert run(script) == f"{shown} True\n"


# -- what is gone since ----------------------------------------------------------------

CODE = """
import dataclasses

@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int = 2
"""


@pytest.fixture(name="shapes")
def _shapes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the user's that changes from one incarnation to the next."""
    made = ModuleType("shapes_of_then")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    SEEN.clear()

    def write(code: str) -> Any:
        vars(made).clear()
        vars(made).update(__name__="shapes_of_then")
        exec(code, vars(made))
        return made

    return write


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def open_at(path: Path, **options: Any) -> TaskOrchestrator:
    return TaskOrchestrator(journal=path, durability="process", **options)


SEEN: list[Any] = []


def echo(value: Any) -> Any:
    return value


def look(value: Any) -> str:
    SEEN.append(value)
    return repr(value)


def look_up(task_id: str) -> Any:
    """A task that ends as another one has."""
    return ORCHESTRATORS[-1].handle(task_id)


ORCHESTRATORS: list[TaskOrchestrator] = []


HELD = threading.Event()


def hold_after_a_checkpoint() -> Any:
    """The first attempt never ends by itself; the next says what it found."""
    context = current_context()
    if context.attempt == 1:
        context.checkpoint(sys.modules["shapes_of_then"].Point(1))
        HELD.set()
        while True:
            time.sleep(0.002)
            context.checkpoint(context.restored)
    return repr(context.restored)


def test_a_result_whose_class_is_gone_is_lost_by_itself(
    path: Path, shapes: Any
) -> None:
    """The journal opens, the rest is there, and the error names the class."""
    point = shapes(CODE).Point(1)
    with open_at(path) as orch:
        orch.submit_task(Task.call(echo, 7, id="other"))
        orch.submit_task(Task.call(echo, point, id="point"))
    shapes("")
    for keep in (10_000, 0):
        with open_at(path, keep_finished=keep) as orch:
            assert orch.handle("other").result() == 7
            handle = orch.handle("point")
            with pytest.raises(ResultGoneError) as caught:
                handle.result(PATIENCE)
            assert "shapes_of_then:Point cannot be imported any more" in str(
                caught.value
            )
            assert "bring that back" in caught.value.hint
            assert handle.done()
            again = orch.submit_task(Task.call(look, handle, id=f"look/{keep}"))
            with pytest.raises(ResultGoneError, match="shapes_of_then:Point"):
                again.result(PATIENCE)
            ORCHESTRATORS[:] = [orch]
            ends_as_it = orch.submit(look_up, "point")
            with pytest.raises(ResultGoneError, match="shapes_of_then:Point"):
                ends_as_it.result(PATIENCE)
    shapes(CODE)
    with open_at(path) as orch:
        assert repr(orch.handle("point").result()) == "Point(x=1, y=2)"
    assert SEEN == []


def test_a_task_whose_payload_is_gone_is_held_until_it_is_back(
    path: Path, shapes: Any
) -> None:
    """As one whose function is gone: that of a worker, and a call."""
    point = shapes(CODE).Point(1)
    with open_with_eye(path) as orch:
        go = orch.submit_task(Task.wait_for("go", id="go"))
        orch.submit_task(Task("see", point, id="seen", after=[go]))
        orch.submit_task(Task.call(look, [point], id="called", after=[go]))
    shapes(CODE.replace("x: int", "z: int"))
    with open_with_eye(path) as orch:
        orch.emit("go", None)
        orch.wait(PATIENCE)
        for name in ("seen", "called"):
            status = orch.get_task_status(name)
            assert status.state is TaskState.BLOCKED
            said = status.history[-1].detail
            assert "shapes_of_then:Point has no field 'x' any more" in said
    assert SEEN == []
    shapes(CODE)
    with open_with_eye(path) as orch:
        assert orch.handle("seen").result(PATIENCE) == "Point(x=1, y=2)"
        assert orch.handle("called").result(PATIENCE) == "[Point(x=1, y=2)]"


def open_with_eye(path: Path) -> TaskOrchestrator:
    orch = open_at(path)
    orch.agent("eye", capabilities={"see"})(lambda task, _: repr(task.payload))
    return orch


def test_a_wait_whose_default_is_gone_ends_with_an_error(
    path: Path, shapes: Any
) -> None:
    """It completes, since its time is over, and what with is lost."""
    point = shapes(CODE).Point(1)
    with open_at(path) as orch:
        task = Task.wait_for("e", timeout=0.01, default=point, id="w", not_before=0.5)
        orch.submit_task(task)
        orch.stop(drain=False)
    shapes("")
    with (
        open_at(path) as orch,
        pytest.raises(ResultGoneError, match="shapes_of_then:Point"),
    ):
        orch.handle("w").result(PATIENCE)


def test_an_event_whose_payload_is_gone_is_an_error_to_who_waits(
    path: Path, shapes: Any
) -> None:
    """
    What came before anybody waited is kept for a while, over the end of an incarnation.
    """
    with open_at(path) as orch:
        orch.emit("e", shapes(CODE).Point(1), keep=600)
    shapes("")
    with open_at(path) as orch:
        handle = orch.submit_task(Task.wait_for("e", id="w"))
        with pytest.raises(ResultGoneError, match="shapes_of_then:Point"):
            handle.result(PATIENCE)
    shapes(CODE)
    with open_at(path) as orch:
        assert repr(orch.handle("w").result()) == "Point(x=1, y=2)"


def test_a_checkpoint_whose_class_is_gone_is_said_to_who_asks(
    path: Path, shapes: Any
) -> None:
    """It is not taken for none: the task would begin anew in silence."""
    shapes(CODE)
    with open_at(path) as orch:
        orch.submit_task(Task.call(hold_after_a_checkpoint, id="t"))
        assert HELD.wait(PATIENCE)
        orch.stop(drain=False)
    shapes("")
    with open_at(path) as orch:
        with pytest.raises(ResultGoneError, match="shapes_of_then:Point") as caught:
            orch.handle("t").result(PATIENCE)
        assert caught.value.message.startswith("the checkpoint of task t is lost: ")


def test_the_same_task_is_the_same_with_values_of_all_kinds(
    path: Path, shapes: Any
) -> None:
    """Submitted again it is found; with another value it is another task."""
    module = shapes(CODE)
    for _ in range(2):
        with open_at(path) as orch:
            task = Task.call(echo, {module.Point(1): (2,)}, id="t")
            assert orch.submit_task(task).result(PATIENCE) == {module.Point(1): (2,)}
            with pytest.raises(DuplicateTaskError):
                orch.submit_task(Task.call(echo, {module.Point(2): (2,)}, id="t"))


def test_what_cannot_be_kept_is_refused_where_it_is_said(path: Path) -> None:
    """At submission, in an event, in metadata: with its place."""
    with open_at(path) as orch:
        with pytest.raises(InvalidTaskError, match=r"^payload\.args\[0\]\.a: "):
            orch.submit(echo, {"a": object()})
        with pytest.raises(InvalidTaskError, match=r": metadata\.a: "):
            orch.submit_task(Task.call(echo, 1, metadata={"a": object()}))
        with pytest.raises(InvalidTaskError, match=r"^payload\[0\]: a builtins"):
            orch.emit("e", [object()])


def test_progress_of_any_class_is_told(path: Path, shapes: Any) -> None:
    """And kept, so that the journal can be read without the class."""
    point = shapes(CODE).Point(1)
    with open_at(path) as orch:
        seen = Recorder(orch, "task_progressed")
        orch.submit_task(Task.call(report, point, id="t")).result(PATIENCE)
        assert seen.wait_for(1)[0].value is point
    shapes("")
    with open_at(path) as orch:
        assert orch.handle("t").result() is None


def report(value: Any) -> None:
    current_context().progress(value)


def returns_its_results():
    return current_context().results


def test_a_mapping_that_is_no_dict_says_what_to_do(tmp_path: Path) -> None:
    """It would come back as a dict: whoever returns it is to say so."""
    path = tmp_path / "journal.db"
    with TaskOrchestrator(journal=path) as orch:
        handle = orch.submit_task(Task.call(returns_its_results, id="x"))
        with pytest.raises(
            InvalidTaskError, match=r"would come back as a dict.*dict\("
        ):
            handle.result(PATIENCE)
    with TaskOrchestrator(journal=path) as orch:
        error = orch.handle("x").exception()
    assert str(error).count("task x") == 1


class Table:
    """Is large: it is kept in a file."""

    def __init__(self, rows: list[str]) -> None:
        self.rows = rows


def save(table: Table, path: str) -> None:
    Path(path).write_text("\n".join(table.rows), encoding="utf-8")


def load(path: str) -> Table:
    return Table(Path(path).read_text(encoding="utf-8").split("\n"))


@pytest.fixture(name="tables")
def _tables() -> Any:
    """`register_file` has been called, until the end of the test."""
    register_file(Table, save, load, suffix=".txt", name="a table")
    yield
    del BY_CLASS[Table], BY_NAME["a table"]
    refused_result.cache_clear()


def twice(table: Table) -> Table:
    return Table(table.rows * 2)


def rows(table: Table) -> list[str]:
    return table.rows


def submit_tables(path: Path, **options: Any) -> list[str]:
    with open_at(path, **options) as orch:
        second = Task.call(twice, Table(["a", "b"]), id="twice")
        orch.submit_task(second).result(PATIENCE)
        return orch.submit_task(Task.call(rows, second, id="rows")).result(PATIENCE)


@pytest.mark.usefixtures("tables")
def test_what_is_large_is_in_a_file_beside_the_journal(path: Path) -> None:
    """Equal values are one file; what leaves the journal takes its files along."""
    folder = Path(f"{path}.values")
    for _ in range(2):
        assert submit_tables(path) == ["a", "b"] * 2
        assert {file.read_text("utf-8") for file in folder.iterdir()} == {
            "a\nb",
            "a\nb\na\nb",
        }
        assert {file.suffix for file in folder.iterdir()} == {".txt"}
        assert folder.stat().st_mode & 0o077 == 0
    (folder / ".new-left.txt").touch()
    journal = SqliteJournal(path, keep_latest=0)
    with TaskOrchestrator(journal=journal) as orch:
        orch.submit_task(Task.call(rows, Table(["c"]), id="other")).result(PATIENCE)
        assert [file.read_text("utf-8") for file in folder.iterdir()] == ["c"]


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("harm", [Path.unlink, lambda file: file.write_text("?")])
def test_a_file_that_is_gone_or_changed_is_said_to_who_asks(
    path: Path, harm: Any
) -> None:
    """Nothing that is not what was kept is handed out; the rest goes on."""
    submit_tables(path)
    for file in Path(f"{path}.values").iterdir():
        harm(file)
    with open_at(path) as orch:
        error = orch.handle("twice").exception(PATIENCE)
        assert isinstance(error, ResultGoneError)
        assert ".values" in str(error)
        assert orch.handle("rows").result(PATIENCE) == ["a", "b"] * 2


def test_what_cannot_be_returned_is_refused_before_it_is_done(path: Path) -> None:
    """As far as annotations and the kind of function say it; one may be derived."""

    with open_at(path) as orch:
        for fn, why in (
            (twice, "twice returns a Table.*register"),
            (numbers, "generator function.*return a list"),
        ):
            with pytest.raises(InvalidTaskError, match=why):
                orch.submit(fn, None)
            with pytest.raises(InvalidTaskError, match=why):
                orch.submit_task(Task.call(fn, None, id="x", priority=1))
        assert orch.submit(some_shape, None).result(PATIENCE) == Square(1)


def numbers(_: Any) -> Any:
    yield 1


class Shape:
    """Its instances cannot be kept; those of `Square` can."""


@dataclass
class Square(Shape):
    side: int


def some_shape(_: Any) -> Shape:
    return Square(1)


def test_numbers_of_numpy_are_numbers(path: Path) -> None:
    """They come back as Python's, and the task is the same with either."""
    numpy = pytest.importorskip("numpy")
    given = {
        "int64": 3,
        "uint8": 255,
        "float32": 0.5,
        "float64": 2.5,
        "bool_": True,
        "complex64": 1 + 2j,
    }
    values = [getattr(numpy, name)(value) for name, value in given.items()]
    for _ in range(2):
        with open_at(path) as orch:
            handle = orch.submit_task(Task.call(echo, values, id="x"))
            assert handle.result(PATIENCE) == list(given.values())
            shown = orch.get_task_status("x").to_dict()["result"]
            assert shown[:5] == list(given.values())[:5]
    with open_at(path) as orch:
        found = orch.handle("x").result(PATIENCE)
        assert list(map(type, found)) == list(map(type, given.values()))
        with pytest.raises(InvalidTaskError, match=r"numpy\.ndarray.*register_file"):
            orch.submit(echo, numpy.zeros(2))
