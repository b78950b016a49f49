"""Working specifications: what a task must keep to, and when its work is accepted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from tests.api.tools import PATIENCE, eventually

from taskorch import Program, Task, TaskOrchestrator, Workflow
from taskorch.errors import (
    InvalidTaskError,
    ValidationFailedError,
)
from taskorch.ext.governance import (
    Specification,
    SpecificationValidator,
)
from taskorch.model.scopes import scopes_overlap
from taskorch.policies import StructuralValidator, ValidatorChain

WHOLE = {
    "id": "throttle",
    "title": "Slow down",
    "risk_tier": 2,
    "scope": {"in": ["src/auth/**", "docs"], "out": ["src/billing"]},
    "budget": "release",
    "resources": {"tokens": 50.0},
    "timeout": 60.0,
    "invariants": [{"id": "quiet", "then": "no log has a password"}],
    "acceptance": [
        {"id": "waits", "given": "x", "when": "y", "then": "z", "run": ["true"]}
    ],
    "non_functional": [{"id": "fast", "run": ["true"], "timeout": 9.0}],
}

#: Another valid value for each key of it.
OTHER = {
    "id": "other",
    "title": "Slow up",
    "risk_tier": 3,
    "budget": "b",
    "resources": {"tokens": 51.0},
    "timeout": 61.0,
    "invariants": [{"id": "loud"}],
    "acceptance": [{**WHOLE["acceptance"][0], "run": ["false"]}],
    "non_functional": [],
}


def work() -> str:
    return "done"


def change(**options):
    return Task.call(work, type="change", **options)


def orchestrator(*needed, known=(WHOLE,), **settings):
    specifications = map(Specification.from_dict, known)
    validator = ValidatorChain(
        StructuralValidator(),
        SpecificationValidator(
            *needed, registered={one.id: one.digest for one in specifications}
        ),
    )
    orch = TaskOrchestrator(validator=validator, **settings)
    orch.budget("release", tokens=1000)
    return orch


def test_a_task_gets_the_limits_of_its_specification():
    task = Specification.from_dict(WHOLE).task(change())
    assert task.id == "throttle"
    assert task.writes == ("src/auth/**", "docs")
    assert (task.budget, task.timeout) == ("release", 60)
    assert task.resources["tokens"] == 50
    assert task.metadata["specification"] == WHOLE


def test_all_that_a_task_asks_beyond_its_limits_is_named_at_once():
    own = change(
        writes=["src/auth", "src/billing/x", "**"],
        budget="other",
        resources={"tokens": 51},
        timeout=61,
    )
    with pytest.raises(ValidationFailedError) as caught:
        Specification.from_dict(WHOLE).task(own)
    places = [place for place, _ in caught.value.findings]
    assert places == ["writes[1]", "writes[2]", "budget", "resources.tokens", "timeout"]


def test_all_faults_of_a_file_are_named_with_their_lines(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(
        "risk_teir: 2\n"
        "change_budget: {max_files: 5}\n"
        "scope: {in: [src/a], out: [src/a/keys]}\n"
        "risk_tier: 4\n"
        "acceptance:\n"
        "  - {run: []}\n"
        "timeout: soon\n"
    )
    with pytest.raises(ValidationFailedError) as caught:
        Specification.from_yaml(path)
    found = str(caught.value)
    for line, part in [
        (1, "did you mean 'risk_tier'"),
        (2, "change_budget: it could not be kept"),
        (3, "src/a/keys is within `in`"),
        (4, "risk_tier: a whole number from 1 to 3"),
        (6, "acceptance[0].run: a program is needed"),
        (6, "acceptance[0].id: it is missing"),
        (7, "timeout: a number above 0"),
        (1, "id: it is missing"),
    ]:
        assert any(
            one.startswith(f"{path}:{line}:") and part in one
            for one in found.splitlines()
        ), (line, part, found)


@pytest.mark.parametrize("name", ["change_budget", "blast_radius", "contracts", "mode"])
def test_keys_that_nothing_could_keep_are_refused_by_name(name):
    with pytest.raises(ValidationFailedError, match=f"{name}: it could not be kept"):
        Specification.from_dict({"id": "x", name: 1})


@pytest.mark.parametrize("names", [("a", "a"), ("accepted", "b")])
def test_names_of_criteria_are_told_apart(names):
    first, second = names
    document = {
        "id": "x",
        "acceptance": [{"id": first}],
        "invariants": [{"id": second}],
    }
    with pytest.raises(ValidationFailedError, match=r"the id|is the id"):
        Specification.from_dict(document)


paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


@given(st.lists(paths, min_size=1, max_size=3), st.lists(paths, max_size=2), paths)
def test_a_task_writes_within_its_scope_and_nowhere_else(inside, outside, path):
    document = {"id": "x", "scope": {"in": inside, "out": outside}}
    try:
        specification = Specification.from_dict(document)
    except ValidationFailedError:
        assert scopes_overlap(inside, outside)
        return
    assert not scopes_overlap(inside, outside)
    allowed = any(path == one or path.startswith(f"{one}/") for one in inside)
    assert allowed is not bool(specification.problems(change(writes=[path])))


SEGMENTS = st.sampled_from(["a", "A", "b", "ä", "a\u0308", "Ä", "ß", "ss", "..", "."])


@given(
    st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join),
    st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join),
    st.booleans(),
)
def test_a_path_is_within_a_scope_exactly_as_it_is_written(scope, path, is_own):
    """Paths that clash, as they differ by case alone, are not allowed for that."""
    try:
        specification = Specification.from_dict({"id": "x", "scope": {"in": [scope]}})
    except ValidationFailedError:
        return
    task = change(writes=[path])
    if is_own and ".." not in path:
        program = Program(["true"], writes=[path])
        task = Task("x", program, writes=[scope])
    parts = [[each for each in of.split("/") if each != "."] for of in (scope, path)]
    within = ".." not in parts[1] and parts[1][: len(parts[0])] == parts[0]
    within = within and any(parts[1])
    assert bool(specification.problems(task)) is not within


def test_a_program_may_write_nowhere_else_by_paths_of_its_own():
    specification = Specification.from_dict({"id": "x", "scope": {"in": ["tmp"]}})
    for path in ("/tmp/x", "other", "TMP/x"):
        program = Program(["true"], writes=["tmp/y", path])
        (found,) = specification.problems(Task("x", program, writes=["tmp/a"]))
        assert found.path == "payload.writes[1]"


# -- before it starts ------------------------------------------------------------------


def test_the_validator_refuses_tasks_without_one_and_those_that_do_not_keep_to_it():
    task = Specification.from_dict(WHOLE).task(change())
    with orchestrator("change") as orch:
        with pytest.raises(ValidationFailedError, match="need a working specification"):
            orch.submit_task(change())
        forged = change(metadata={"specification": WHOLE})
        with pytest.raises(ValidationFailedError) as caught:
            orch.submit_task(forged)
        places = [place for place, _ in caught.value.findings]
        assert places == ["writes", "budget", "resources.tokens", "timeout"]
        broken = change(metadata={"specification": {"id": "x", "scope": {}, "y": 1}})
        with pytest.raises(ValidationFailedError) as caught:
            orch.submit_task(broken)
        assert len(caught.value.findings) == 2
        assert orch.submit_task(task).result(PATIENCE) == "done"
        assert orch.submit(work).result(PATIENCE) == "done"


def test_nothing_that_a_submitter_writes_makes_a_specification_count():
    own = {**WHOLE, "risk_tier": 3, "scope": {"in": ["**"]}}
    other = {**own, "id": "mine"}
    with orchestrator("change") as orch:
        for document, said in [
            (own, "it differs from the registered specification 'throttle'"),
            (other, "no specification 'mine' is registered"),
            ({**WHOLE, "title": "\ud800"}, "has no"),
            ("throttle", "mapping"),
        ]:
            for kind in ("change", "other"):
                task = Task.call(
                    work, type=kind, metadata={"specification": document}, writes=["b"]
                )
                with pytest.raises(ValidationFailedError, match=said):
                    orch.submit_task(task)
    with (
        TaskOrchestrator(validator=SpecificationValidator("change")) as orch,
        pytest.raises(ValidationFailedError, match="is registered: Spec"),
    ):
        orch.submit_task(Specification.from_dict({"id": "a"}).task(change()))


@given(
    st.sampled_from([*WHOLE]),
    st.permutations([*WHOLE]),
    st.sampled_from(["left out", "changed"]),
)
def test_a_digest_stands_for_the_content_whatever_its_form(name, names, act):
    digest = Specification.from_dict(WHOLE).digest
    document = {each: WHOLE[each] for each in names}
    assert Specification.from_dict(document).digest == digest
    assert SpecificationValidator(registered={"throttle": digest})
    changed = {**document, name: {**OTHER, "scope": {"in": ["docs"]}}[name]}
    if act == "left out" and name != "id":
        del changed[name]
    assert Specification.from_dict(changed).digest != digest


@pytest.mark.parametrize(
    "registered", [{"a": "x"}, {"a": None}, ["a"], "policies.yaml", {"a": "f" * 64}]
)
def test_what_is_no_digest_is_not_registered(registered):
    with pytest.raises(InvalidTaskError, match="ids with digests") as caught:
        SpecificationValidator(registered=registered)
    assert "specification.digest" in caught.value.hint


def test_a_validator_says_what_it_knows():
    digest = Specification.from_dict(WHOLE).digest
    assert repr(SpecificationValidator("a")) == "SpecificationValidator('a')"
    both = SpecificationValidator("a", registered={"throttle": digest})
    assert f"'a', registered={{'throttle': '{digest}'}}" in repr(both)


def test_a_workflow_of_documents_carries_specifications():
    document = {
        "workflow": "w",
        "tasks": {
            "a": {
                "program": ["true"],
                "metadata": {"specification": {"id": "s", "timeout": 5}},
            }
        },
    }
    with (
        orchestrator(known=[{"id": "s", "timeout": 5}]) as orch,
        pytest.raises(ValidationFailedError, match="allows 5 s"),
    ):
        orch.workflows.start(Workflow.from_dict(document, programs=True))


# -- when it is accepted ---------------------------------------------------------------


def test_criteria_are_checked_after_the_work_and_others_wait_for_all(tmp_path, caplog):
    done = tmp_path / "done"
    look = f"import pathlib, sys; sys.exit(not pathlib.Path({str(done)!r}).exists())"
    document = {
        "id": "w",
        "invariants": [{"id": "prose", "then": "it is good"}],
        "acceptance": [{"id": "there", "run": [sys.executable, "-c", look]}],
    }
    specification = Specification.from_dict(document)
    assert specification.without_effect == ("prose",)
    with orchestrator(known=[document]) as orch:
        tasks = specification.tasks(Task.call(Path.touch, done))
        assert [task.id for task in tasks] == ["w", "w/there", "w/accepted"]
        orch.submit_tasks(tasks)
        later = orch.submit_task(Task.call(work, after=["w/accepted"]))
        assert later.result(PATIENCE) == "done"
    assert "no program checks prose" in caplog.text


def test_work_that_a_criterion_refuses_is_not_accepted():
    document = {
        "id": "w",
        "acceptance": [
            {"id": "bad", "run": [sys.executable, "-c", "raise SystemExit(3)"]},
            {"id": "good", "run": ["true"]},
        ],
    }
    with orchestrator(known=[document]) as orch:
        orch.submit_tasks(Specification.from_dict(document).tasks(change()))
        assert orch.handle("w/bad").exception(PATIENCE) is not None
        eventually(lambda: str(orch.get_task_status("w/accepted").state) == "blocked")
        assert orch.handle("w").result(PATIENCE) == "done"
        orch.stop(drain=False)
