"""Under each field of the state stands what it holds, and which invariant is checked."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import taskorch
from taskorch.model import TaskState

KERNEL = Path(taskorch.__file__).parent / "core" / "kernel"
#: The classes of the state; what else stands in their files is a value, or a view.
STATE = {
    "_state.py": ("KernelState",),
    "_rows.py": (
        *("TaskRow", "Links", "RowExtra", "Terms", "RetainedEvent", "WorkerRow"),
        *("BreakerRow", "PoolRow", "RateRow", "Place", "Candidates", "Room", "Leak"),
        *(
            "Reservation",
            "Reserving",
            "AllocationRow",
            "Claim",
            "TypeRow",
            "Record",
            "Bucket",
        ),
        *("Share", "Shares", "BudgetRow", "LockRow", "UnitRow", "UnitGroup"),
        "WindowRow",
    ),
    "_scopes.py": ("Scopes",),
    "_rates.py": ("Rates",),
}
#: Fields that no invariant is about, and why not.
UNCHECKED = {
    "what was said, once: nothing else says it again": """
        KernelState: config deciders context keep watched learns rigid stopped paused
            aside_ns quotas workflows epoch has_accounts limits _first_limits
        TaskRow: id seq cargo key submitted_ns named
        RowExtra: priority deadline_ns rerun_of rerun_id first_timeout_ns veto
        Terms: join on_failure wait remind_ns
        RetainedEvent: id seq until_ns cargo
        WorkerRow: name info request
        PoolRow: name is_quota beyond
        WindowRow: limit
        Rates: waits_for_room
        LockRow: above
        UnitRow: worker resource unit
        UnitGroup: owner resource
        BudgetRow: name parent
        RateRow: per_second
        Place: worker pool name need above
        AllocationRow: id since_ns
        Claim: id owner units cargo granted
        Bucket: spec number type_row share
        Share: owner number
        Reservation: row worker start_ns spare
        Leak: row seen_ns
    """,
    "what follows from facts: `differences` compares it with what a fold comes to": """
        TaskRow: ready_ns started_ns ended_ns attempt reason
        RowExtra: first_roots error failure_class usage failed_on first_ns last_delay_ns
            permitted stop_reason left_ns limit_ns timer resume_ns spent paid
        BudgetRow: declared is_low asked is_open
        Terms: reminded remind_at_ns votes proved
        WorkerRow: draining breakers ends falls completed failed records
        BreakerRow: state since_ns until_ns trips probes passed
        Record: completed failed latency_ns told
        RateRow: at_ns
    """,
    "what all else is counted from, or found by": """
        KernelState: tasks
        TaskRow: links extra
        Links: dependents
    """,
    "it only counts, or is a sample": """
        KernelState: admitting bucket_no timer_no submissions seq
            retries_scheduled retries_recovered retries_exhausted causes faults types
        Shares: made served
        TypeRow: completed failed cancelled failures samples failing
    """,
    "when it is looked at, or made smaller: a question of speed": """
        KernelState: most_tasks most_buckets most_timers stale_entries timers growing
            workers_version last parked_any returning reserving
            buckets elastic claims
            spent has_units
        Reserving: reserved moment is_more passed_at
        Scopes: most first_after ineligible
        TaskRow: ticket
        WorkerRow: heard_ns round_trip lease_due_ns slots short view watched
        PoolRow: short parked view
        Place: heap
        Room: since above failing
        Share: buckets standing is_ranked served
        Bucket: need sized fifo heap last_key stale soft forgotten
    """,
    "an answer that is kept as long as its version holds": """
        KernelState: plain judged ruling
        Bucket: locks limits
        Bucket: matching workers needs workers_version match_reason bounds charges
            checked is_plain route quota_route route_version route_reason verdict
    """,
    "the driver takes and empties it, or gives it": """
        KernelState: caller dropped hand_over whom points sink tell_submitted
            tell_started
            tell_completed tell_ready starts effects touched not_folded
    """,
}


#: Fields whose comment is that of the one above.
TOGETHER = [
    "KernelState.tell_started",
    "KernelState.tell_completed",
    "Terms.reminded",
    "Terms.remind_at_ns",
    "BreakerRow.passed",
    "Record.failed",
    "Room.above",
    "TypeRow.failed",
    "TypeRow.cancelled",
]


class Field:
    """A field of a class of the state, and the comment above it."""

    def __init__(self, name: str, comment: str) -> None:
        self.name = name
        self.comment = comment
        self.checks = re.findall(r"`(check_\w+)`", comment.partition("Checked: ")[2])


def fields_in(file: str, cls: str) -> Iterator[Field]:
    text = (KERNEL / file).read_text(encoding="utf-8")
    lines = text.splitlines()
    (body,) = (
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef) and node.name == cls
    )
    for node in ast.walk(body):
        if not isinstance(node, ast.AnnAssign):
            continue
        target = node.target
        if isinstance(target, ast.Attribute) or node in body.body:
            above = node.lineno - 1
            comment: list[str] = []
            while lines[above - 1].strip().startswith("#"):
                comment.insert(0, lines[above - 1].lstrip("#: "))
                above -= 1
            name = getattr(target, "attr", getattr(target, "id", ""))
            yield Field(name, " ".join(comment))


FIELDS = [
    (cls, field)
    for file, classes in STATE.items()
    for cls in classes
    for field in fields_in(file, cls)
]
CHECKED = {f"{cls}.{field.name}": field for cls, field in FIELDS if field.checks}


INVARIANTS = ast.parse((KERNEL / "_invariants.py").read_text(encoding="utf-8"))
#: The functions there, and the questions that rows answer, and limits about their state.
FUNCTIONS = {node.name: node for node in INVARIANTS.body if hasattr(node, "args")}
for _file in ("_rates.py", "_rows.py"):
    for _node in ast.walk(ast.parse((KERNEL / _file).read_text(encoding="utf-8"))):
        if isinstance(_node, ast.FunctionDef):
            FUNCTIONS.setdefault(f".{_node.name}", _node)


def unchecked() -> Iterator[str]:
    for text in UNCHECKED.values():
        cls = ""
        for word in text.split():
            if word.endswith(":"):
                cls = word[:-1]
            else:
                yield f"{cls}.{word}"


def read_by(check: str) -> set[str]:
    """The names of the fields that a function of `_invariants` reads, with what it calls."""
    functions = {**FUNCTIONS}
    names: set[str] = set()
    called = [check]
    while called:
        for node in ast.walk(functions.pop(called.pop(), ast.Pass())):
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
                called.append(f".{node.attr}")
            elif isinstance(node, ast.Name):
                if node.id == "getattr":
                    # The counters, by the names of the states, or by another.
                    names.update(state.value for state in TaskState)
                called.append(node.id)
            elif isinstance(node, ast.Constant):
                names.add(str(node.value))
    return names


def test_under_each_field_stands_what_it_holds():
    bare = [f"{cls}.{field.name}" for cls, field in FIELDS if not field.comment]
    assert len(FIELDS) > 200
    assert {*bare} == {*TOGETHER}


def test_each_field_has_an_invariant_or_a_reason():
    names = [f"{cls}.{field.name}" for cls, field in FIELDS]
    reasons = list(unchecked())
    assert len({*reasons}) == len(reasons)
    assert [name for name in reasons if name in CHECKED] == []
    assert [name for name in reasons if name not in names] == []
    assert [n for n in names if n not in CHECKED and n not in reasons] == []


def test_the_invariant_of_a_field_reads_it():
    names = {check: read_by(check) for f in CHECKED.values() for check in f.checks}
    unread = [
        (name, check)
        for name, field in CHECKED.items()
        for check in field.checks
        if field.name not in names[check]
    ]
    assert unread == []


def test_each_invariant_stands_under_a_field():
    """And is found from there: nothing is checked in silence."""
    checks = {getattr(node, "name", "") for node in INVARIANTS.body}
    named = {check for field in CHECKED.values() for check in field.checks}
    checks = {name for name in checks if name.startswith("check_")}
    assert named == checks - {"check_invariants"}
