"""Units that have names, from outside: GPUs, programs, processes, restarts, discovery."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, Hold, eventually

from taskorch import (
    Elastic,
    InvalidTaskError,
    Resources,
    Task,
    TaskOrchestrator,
    current_context,
)
from taskorch.api.journal import open_journal
from taskorch.errors import (
    ResourcesTakenError,
    UnsatisfiableError,
    WouldDeadlockError,
)
from taskorch.events import AgentJoined, TaskStarted
from taskorch.ext.command_line import main
from taskorch.ext.views import JournalReader
from taskorch.model import Agent, NamedUnits, Quota
from taskorch.testing import Faults, Simulation

VISIBLE = "CUDA_VISIBLE_DEVICES"
SHOW = [
    sys.executable,
    "-c",
    f"import os; print(os.environ.get({VISIBLE!r}, 'nothing'), end='')",
]
GPUS = {"cpu": 8, "gpu": NamedUnits("0", "1")}


def seen():
    """What a function sees of its units: in its context, and in its environment."""
    return current_context().units("gpu"), os.environ.get(VISIBLE), os.getpid()


def show(gpu, **options):
    return Task.program(SHOW, resources={"gpu": gpu} if gpu else {}, **options)


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv(VISIBLE, raising=False)


# -- what an attempt sees --------------------------------------------------------------


def test_programs_see_the_units_that_are_theirs():
    with TaskOrchestrator(resources=GPUS) as orch:
        hold = Hold()
        orch.submit_task(Task.call(hold, resources={"gpu": 0.5}))
        hold.wait()
        texts = [orch.submit_task(show(g)).result().stdout_tail for g in (1, 0.5, 0)]
        hold.release()
        assert texts == ["1", "0", "nothing"]
        assert orch.submit_task(show(2)).result().stdout_tail == "0,1"
        own = show(1, env={VISIBLE: "mine"})
        assert orch.submit_task(own).result().stdout_tail == "mine"


def test_a_thread_hears_of_them_from_its_context_alone():
    with TaskOrchestrator(resources=GPUS) as orch:
        units, variable, _ = orch.submit_task(
            Task.call(seen, resources={"gpu": 2})
        ).result()
        assert (units, variable) == (("0", "1"), None)
        assert orch.submit_task(Task.call(seen)).result()[0] == ()


def test_a_worker_process_has_them_in_its_environment_and_makes_no_other_call():
    with TaskOrchestrator(resources=GPUS, executors={"process": 1}) as orch:

        def of(gpu):
            needs = {"gpu": gpu} if gpu else {}
            task = Task.call(seen, executor="process", resources=needs)
            return orch.submit_task(task)

        first = of(0).result()
        assert first[:2] == ((), None)
        # What a process has opened of a GPU, it keeps: the next gets another process.
        both, last = [handle.result() for handle in (of(2), of(0))]
        assert both == (("0", "1"), "0,1", first[2])
        assert last[:2] == ((), None)
        assert last[2] != first[2]


def test_by_hand_and_in_what_is_said_of_pools():
    with TaskOrchestrator(resources=GPUS) as orch:
        with orch.resources.allocate({"gpu": 1}, owner="ann"):
            usage = orch.resources.usage()["gpu"]
            assert (usage.used, usage.units) == (1, {"0": 1, "1": 0})
            assert "1 of 2 in use, of units 0: 1, 1: 0" in str(usage)
            part = orch.resources.allocate({"gpu": 0.3}, owner="ann")
            with pytest.raises(ResourcesTakenError):
                orch.resources.allocate({"gpu": 1}, owner="ben")
            part.release()
        assert orch.resources.usage()["cpu"].units == {}


def test_workers_in_this_process_have_units_of_their_own():
    with TaskOrchestrator(resources={"cpu": 8}) as orch:

        def work(task, context):
            return context.units("gpu")

        orch.agent("one", capabilities={"x"}, capacity=GPUS)(work)
        capacity = {"gpu": {"named": ["a", "b"]}}
        orch.agent("two", capabilities={"y"}, capacity=capacity)(work)
        ask = {"gpu": 1}
        assert orch.submit_task(Task("t", requires={"x"}, resources=ask)).result() == (
            "0",
        )
        assert orch.submit_task(Task("t", requires={"y"}, resources=ask)).result() == (
            "a",
        )


def test_who_has_which_unit_of_a_worker_is_said_wherever_one_looks(tmp_path, capsys):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(resources=GPUS, journal=path) as orch:
        hold = Hold()
        capacity = {"gpu": {"named": ["a", "b"]}}
        orch.agent("one", capabilities={"x"}, capacity=capacity)(lambda task, _: hold())
        orch.agent("two", capabilities={"y"})(lambda task, _: hold())
        own = Task("t", id="own", requires={"x"}, resources={"gpu": 0.5})
        pool = Task("t", requires={"y"}, resources={"gpu": 1})
        handles = orch.submit_tasks([own, pool])
        eventually(lambda: orch.resources.usage()["gpu"].used == 1.5)
        own, pool = (handle.status for handle in handles)
        assert (own.agent_id, own.units) == ("one", {"gpu": ("a",)})
        assert (pool.agent_id, pool.units) == ("two", {"gpu": ("0",)})
        assert own.to_dict()["units"] == {"gpu": ["a"]}
        worker = orch.agents.get("one")
        assert worker.units == {"gpu": {"a": 0.5, "b": 0}}
        assert worker.to_dict()["units"] == worker.units
        assert orch.agents.get("two").units == {}
        assert "0.5 gpu (a of worker one)" in orch.explain("own").granted
        assert orch.resources.usage()["gpu"].units == {"0": 1, "1": 0}
        eventually(lambda: JournalReader(path).get_task_status("own").units)
        assert main(["inspect", str(path), "own"]) == 0
        assert "holds      0.5 gpu (a)" in capsys.readouterr().out
        hold.release()
    assert orch.get_task_status("own").units == {}


@pytest.mark.parametrize(("many", "units", "need"), [(2, 2, 0.5), (3, 4, 2)])
def test_a_wait_inside_that_no_unit_would_end_is_refused(many, units, need):
    """So much is free in sum once all wait, and of no unit, or of too few whole ones."""
    all_began = threading.Barrier(many)
    gpus = NamedUnits(*range(units))
    with TaskOrchestrator(resources={"gpu": gpus, "cpu": 1}, concurrency=9) as orch:

        def outer():
            all_began.wait(PATIENCE)
            inner = Task.call(seen, resources={"gpu": need, "cpu": 1})
            return orch.submit_task(inner).result()

        tasks = [Task.call(outer, resources={"gpu": 0.6}) for _ in range(many)]
        ends = [handle.exception(PATIENCE) for handle in orch.submit_tasks(tasks)]
        assert [type(end) for end in ends].count(WouldDeadlockError) == 1
        assert None in ends


def test_a_plan_keeps_units_apart_too():
    """Two that need 0.6 fit into two GPUs, and a third one waits though 0.8 is free."""
    with TaskOrchestrator(resources=GPUS) as orch:
        tasks = [Task.call(seen, resources={"gpu": 0.6}) for _ in range(3)]
        assert orch.simulate(tasks, 10).makespan == 20


# -- what comes in ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("0", "0"), "named twice"),
        (("",), "has a name such as '0'"),
        ((" 0",), "has a name such as '0'"),
        (("0,1",), "has no comma"),
        ((None,), "has a name such as '0'"),
        ((-1,), "has a name such as '0'"),
        ((True,), "has a name such as '0'"),
        (("x" * 201,), "has a name such as '0'"),
        (range(1001), "1,001 units have names"),
    ],
)
def test_names_that_are_none(names, words):
    with pytest.raises(InvalidTaskError, match=words):
        NamedUnits(*names)


def test_names_are_texts():
    assert NamedUnits(0, "MIG-1/2").names == ("0", "MIG-1/2")
    assert repr(Resources(gpu=NamedUnits(0), cpu=2)) == (
        "Resources(cpu=2, gpu=NamedUnits('0'))"
    )
    assert Resources(gpus=NamedUnits(0, 1)) == Resources(gpu=NamedUnits("0", "1"))
    assert Resources(gpu=NamedUnits("0")) != Resources(gpu=1)
    assert Resources(gpu=NamedUnits("0"))["gpu"] == 1


@pytest.mark.parametrize(
    "amount",
    [
        *({"named": "0"}, {"named": b"01"}, {"named": 3}, {}, {"named": [], "x": 1}),
        *("0", "0,1", ["0"]),
    ],
)
def test_documents_that_name_no_units(amount):
    with pytest.raises(InvalidTaskError, match="an amount is a number") as error:
        TaskOrchestrator(resources={"gpu": amount})
    assert '{"gpu": {"named": ["0", "1"]}}' in str(error.value)


def test_a_sum_knows_the_units_of_which_only_one_part_has_some():
    named, more = Resources(gpu=NamedUnits("0")), Resources(cpu=1)
    assert named + more == more + named == Resources(cpu=1, gpu=NamedUnits("0"))
    assert named + Resources(gpu=1) == named + named == Resources(gpu=2)


@pytest.mark.parametrize(
    "ask",
    [
        lambda r: Task("t", resources=r),
        lambda _: Task("t", resources={"gpu": NamedUnits("0")}),
        Elastic,
        lambda r: Quota(type="t", resources=r),
        lambda r: Agent("a", request=r),
        lambda r: Task.program(["x"], limits=r),
    ],
)
def test_names_are_not_asked_for(ask):
    with pytest.raises(InvalidTaskError, match="not where they are asked for") as error:
        ask(Resources(gpu=NamedUnits("0")))
    assert "say how many: gpu=1" in str(error.value)


def test_workers_of_a_template_do_not_share_units():
    with TaskOrchestrator() as orch:
        with pytest.raises(InvalidTaskError, match="would have the same units"):
            orch.agents.template("one", handler=seen, capacity=GPUS)
        orch.agents.template("two", handler=lambda task, context: 1)
        orch.agents.spawn("two", {"id": "w", "capacity": {"gpu": {"named": ["0"]}}})
        has = orch.get_stats().agents["w"].capacity
        assert has == Resources(gpu=NamedUnits("0"))


def test_parts_of_several_are_refused():
    with TaskOrchestrator(resources=GPUS) as orch:
        with pytest.raises(UnsatisfiableError, match="ask for whole gpu"):
            orch.submit_task(Task.call(seen, resources={"gpu": 1.5}))
        with pytest.raises(InvalidTaskError, match="which are there, 3 does not say"):
            orch.resources.resize({"gpu": 3})
        orch.resources.resize({"gpu": NamedUnits("1", "2"), "cpu": 2})
        usage = orch.resources.usage()
        assert (list(usage["gpu"].units), usage["cpu"].total) == (["1", "2"], 2)


# -- restarts --------------------------------------------------------------------------

_INCARNATION = """
import sys, time
from taskorch import Task, TaskOrchestrator
from taskorch.model import NamedUnits
orch = TaskOrchestrator(resources={"gpu": NamedUnits("0", "1")}, journal=sys.argv[1])
orch.start()
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
for name, gpu in [("a", 1), ("b", 0.5), ("c", 0.5), ("d", 2)]:
    orch.submit_task(Task.program(sleep, id=name, resources={"gpu": gpu}))
while orch.resources.usage()["gpu"].used < 2:
    time.sleep(0.01)
print("there", flush=True)
time.sleep(600)
"""


def test_a_restart_has_units_and_none_is_held_by_the_dead(tmp_path):
    path = tmp_path / "runs.db"
    incarnation = subprocess.Popen(
        [sys.executable, "-c", _INCARNATION, path], stdout=subprocess.PIPE, text=True
    )
    try:
        assert incarnation.stdout.readline() == "there\n"
    finally:
        incarnation.send_signal(signal.SIGKILL)
        incarnation.wait(PATIENCE)
        incarnation.stdout.close()
    # One has fallen off the bus meanwhile.
    orch = TaskOrchestrator(resources={"gpu": NamedUnits("1")}, journal=path)
    with orch:
        eventually(lambda: orch.resources.usage()["gpu"].used == 1)
        assert orch.resources.usage()["gpu"].units == {"1": 1}
        assert "the most there is, in the pool, is 1" in str(orch.explain("d"))
        orch.resources.resize({"gpu": NamedUnits("1", "0")})
        eventually(lambda: orch.resources.usage()["gpu"].used == 2)
        assert orch.resources.usage()["gpu"].units == {"1": 1, "0": 1}
        for name in "abcd":
            orch.cancel_task(name)
        eventually(lambda: orch.resources.usage()["gpu"].used == 0)


def test_workers_are_remembered_with_their_units(tmp_path):
    def work(task, context):
        return context.units("gpu")

    for incarnation in (1, 2, 3):
        with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
            if incarnation > 1:
                # Before it has joined again.
                worker = orch.get_stats().agents["one"]
                assert worker.capacity == Resources(**GPUS)
            orch.agent("one", capabilities={"x"}, capacity=GPUS)(work)
            task = Task("t", requires={"x"}, resources={"gpu": 1})
            assert orch.submit_task(task).result() == ("0",)
    # Also by those who read the events.
    with closing(open_journal(tmp_path / "runs.db")) as journal:
        events = [event for event, _ in JournalReader(journal).entries()]
    joined = [e.agent for e in events if type(e) is AgentJoined and e.agent.capacity]
    assert [worker.capacity for worker in joined] == [Resources(**GPUS)] * 3
    started = [event.units for event in events if type(event) is TaskStarted]
    assert started == [(("gpu", "0", 1_000_000, True),)] * 3


AMOUNTS = (0.25, 0.3, 0.5, 0.6, 0.75, 1, 1, 2)


@pytest.mark.parametrize(
    "seed",
    [
        n
        if n < 5
        else pytest.param(
            n, marks=pytest.mark.slow("for steps that are seldom the last")
        )
        for n in range(20)
    ],
)
def test_any_step_may_be_the_last(seed):
    """The watch counts all units again, by the events; and in the end all ran."""
    dice = random.Random(seed)
    simulation = Simulation(
        seed,
        faults=Faults(
            crash=0.05,
            crash_in_recovery=0.2,
            torn_commit=0.3,
            agent_death=0.1,
            agent_hang=0.05,
            zombie=0.05,
            points=0.1,
        ),
        resources=Resources(cpu=4, gpu=NamedUnits("0", "1", "2")),
        concurrency=8,
    )
    own = Resources(gpu=NamedUnits("0", "1"))
    simulation.agent("near", capabilities={"x"})
    simulation.agent("far", capabilities={"x", "y"}, capacity=own, lease=20.0)
    tasks = [
        Task(
            "t",
            id=f"t{number}",
            requires=dice.choice(["x", "x", "y"]).split(),
            resources={"gpu": dice.choice(AMOUNTS)},
            retry=50,
        )
        for number in range(30)
    ]
    simulation.work("t", 3.0)
    for number, task in enumerate(tasks):
        simulation.submit_task(task)
        simulation.run(until=simulation.now + dice.random() * 4)
        if number % 5 == 4:
            names = dice.sample("0123", dice.choice([2, 3, 4]))
            if simulation.world.incarnation is not None:
                simulation.resize({"gpu": NamedUnits(*names)})
    simulation.run()
    simulation.check()
    assert len(simulation.acknowledged) == len(tasks)
    ends = simulation.world.incarnation.kernel
    assert not any(row.used for row in ends.beside.values())


# -- discovery -------------------------------------------------------------------------

#: A library that says what stands in a file beside it.
_NVML = """
import json
from pathlib import Path

class NVMLError(Exception):
    pass

class Memory:
    total = 40 << 30

def made():
    return json.loads(Path(__file__).with_name("made.json").read_text())

def nvmlInit():
    if made()["init"]:
        raise NVMLError(made()["init"])

def nvmlShutdown():
    pass

def nvmlDeviceGetCount():
    return int(made()["count"])

def nvmlDeviceGetHandleByIndex(index):
    if index in made()["lost"]:
        raise NVMLError("GPU is lost")
    return (index,)

def nvmlDeviceGetUUID(handle):
    return "GPU-" + "abcd"[handle[0]] if len(handle) == 1 else "MIG-%s-%s" % handle

def nvmlDeviceGetName(handle):
    return b"NVIDIA A100"

def nvmlDeviceGetMemoryInfo(handle):
    return Memory

def nvmlDeviceGetMigMode(handle):
    if handle[0] not in made()["divided"]:
        raise NVMLError("Not Supported")
    return [1, 1]

def nvmlDeviceGetMaxMigDeviceCount(handle):
    return 3

def nvmlDeviceGetMigDeviceHandleByIndex(handle, index):
    if index == 1:
        raise NVMLError("Not Found")
    return (handle[0], index)
"""
_LOOK = """
import contextlib, importlib, io, json, logging, os, sys
from pathlib import Path
from taskorch import InvalidTaskError, TaskOrchestrator
from taskorch.ext.command_line import main
from taskorch.kit.machine import may_have_gpus

log = io.StringIO()
logging.basicConfig(stream=log, format="%(message)s")
here = Path(sys.argv[1])
for case in json.loads((here / "cases.json").read_text()):
    sys.modules.pop("pynvml", None)
    may_have_gpus.cache_clear()
    if case["code"] is None:
        (here / "pynvml.py").unlink(missing_ok=True)
    else:
        (here / "pynvml.py").write_text(case["code"])
    importlib.invalidate_caches()
    (here / "made.json").write_text(json.dumps(case["made"]))
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        os.environ.pop(name, None)
    os.environ.update(case["env"])
    log.seek(log.truncate(0))
    print_to = io.StringIO()
    try:
        if case["resources"] == "doctor":
            with contextlib.redirect_stdout(print_to):
                main(["doctor"])
            (found,) = [x for x in print_to.getvalue().splitlines() if "gpus:" in x]
        else:
            orch = TaskOrchestrator(resources=case["resources"])
            pool = orch.resources.usage().get("gpu")
            found = pool and list(pool.units)
    except InvalidTaskError as error:
        found = str(error)
    print(json.dumps([found, log.getvalue()]), flush=True)
"""


def case(resources="found", *, code=_NVML, env=(), **made):
    """What is asked for, and what there is: a library, a driver, variables."""
    if resources == "found":
        resources = {"gpu": "found"}
    made = {"init": "", "count": 2, "lost": [], "divided": [], **made}
    return {"resources": resources, "code": code, "env": dict(env), "made": made}


def look(folder, *cases, controller=False):
    """What each orchestrator has, or why there is none; and what was logged."""
    (folder / "cases.json").write_text(json.dumps(cases))
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    variables = {
        **os.environ,
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if controller:
        # Any library stands for that of the driver, which only pynvml asks.
        any_library = next(Path("/lib").glob("*/libm.so.6"))
        shutil.copy(any_library, folder / "libnvidia-ml.so.1")
        variables["LD_LIBRARY_PATH"] = str(folder)
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, folder],
        env=variables,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert not done.stderr, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(cases)
    return answers


NOWHERE = "import nowhere_at_all"
NONE_FOUND = [
    (case(code="1 / 0"), "division by zero"),
    (case(code=NOWHERE), "No module named 'nowhere_at_all'"),
    (case(init="Driver Not Loaded"), "driver does not answer: Driver Not Loaded"),
    (case(count=0), "NVIDIA's driver knows of no GPU"),
    (case(count="?"), "does not say which there are: invalid literal for int()"),
    (case(count=1, lost=[0]), "GPU 0 cannot be used: GPU is lost"),
    (case(env={VISIBLE: ""}), "CUDA_VISIBLE_DEVICES='' lets us use none"),
    (case(env={VISIBLE: "-1"}), "CUDA_VISIBLE_DEVICES='-1' lets us use none"),
]
if find_spec("pynvml") is None:
    said = "nvidia-ml-py is not installed: pip install 'taskorch[gpu]'"
    NONE_FOUND.append((case(code=None), said))


def test_who_asks_for_gpus_where_none_is_found_is_told_why(tmp_path):
    answers = look(tmp_path, *[made for made, _ in NONE_FOUND])
    for (answer, logged), (_, words) in zip(answers, NONE_FOUND, strict=True):
        assert answer.startswith("no GPU was found: ")
        assert words in answer
        assert "or leave gpu out" in answer
        assert logged == ""


def test_who_does_not_ask_is_not_disturbed(tmp_path):
    cases = [{**made, "resources": {"cpu": 1}} for made, _ in NONE_FOUND]
    # Without a driver nobody looks for what the machine has.
    cases += [{**made, "resources": None} for made, _ in NONE_FOUND]
    assert look(tmp_path, *cases) == [[None, ""]] * len(cases)


def test_gpus_are_found_by_their_uuids(tmp_path):
    whole, lost, divided = look(
        tmp_path, case(), case(count=3, lost=[1]), case(divided=[1])
    )
    assert whole == [["GPU-a", "GPU-b"], ""]
    # One that is lost is left out, and that is said.
    assert lost[0] == ["GPU-a", "GPU-c"]
    assert "GPU 1 cannot be used: GPU is lost" in lost[1]
    # Parts of one that is divided are units.
    assert divided == [["GPU-a", "MIG-1-0", "MIG-1-2"], ""]


OURS = [
    # How CUDA counts is not said: then its own words are the names.
    ("1", "", ["1"]),
    ("1,0", "FASTEST_FIRST", ["1", "0"]),
    ("1,0", "PCI_BUS_ID", ["GPU-b", "GPU-a"]),
    ("GPU-b", "", ["GPU-b"]),
    ("GPU-", "PCI_BUS_ID", []),
    # What stands behind something unknown does not count.
    ("0,7,1", "PCI_BUS_ID", ["GPU-a"]),
    ("0,,1", "PCI_BUS_ID", ["GPU-a"]),
    (" 1 , 2", "PCI_BUS_ID", ["GPU-b", "MIG-2-0", "MIG-2-2"]),
    ("3,1", "PCI_BUS_ID", ["GPU-b"]),
]


def test_only_those_that_are_ours(tmp_path):
    cases = [
        case(
            env={VISIBLE: visible, "CUDA_DEVICE_ORDER": order},
            count=4,
            divided=[2],
            lost=[3],
        )
        for visible, order, _ in OURS
    ]
    for (answer, _), (_, _, names) in zip(look(tmp_path, *cases), OURS, strict=True):
        assert answer == names or (not names and "lets us use none" in answer)


def test_by_default_a_machine_has_what_is_found(tmp_path):
    fine, mute = look(
        tmp_path, case(None), case(None, init="mismatch"), controller=True
    )
    assert fine == [["GPU-a", "GPU-b"], ""]
    # A driver that does not answer is said, and no more.
    assert mute == [None, "taskorch: NVIDIA's driver does not answer: mismatch\n"]


def test_the_doctor_names_them(tmp_path):
    fine, mute = look(tmp_path, case("doctor", lost=[0]), case("doctor", init="no"))
    assert fine[0] == (
        "warning  gpus: GPU-b, NVIDIA A100 (40,960 MiB); GPU 0 cannot be used: "
        "GPU is lost"
    )
    assert mute[0].endswith("gpus: none: NVIDIA's driver does not answer: no")


def test_the_library_has_what_is_asked_of_it():
    nvml = pytest.importorskip("pynvml")
    names = [line.split("(")[0][4:] for line in _NVML.split("\n") if "def nvml" in line]
    assert len(names) == 10
    assert all(callable(getattr(nvml, name)) for name in names)
