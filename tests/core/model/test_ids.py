"""Laws of ids: what is put together is taken apart again."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from taskorch.ext.coding import _coding_work
from taskorch.model import ids

SEGMENTS = st.text("ab-.7_T", min_size=1, max_size=8).filter(
    lambda text: ids.id_problem(text) is None
)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)
NUMBERS = st.integers(2, 40)


@given(st.lists(SEGMENTS, min_size=1, max_size=5))
def test_a_path_is_its_segments(segments: list[str]) -> None:
    path = ids.joined(*segments)
    assert ids.id_problem(path) is None
    assert ids.segments_of(path) == segments
    assert ids.has_segments(path) == (len(segments) > 1)
    assert (ids.first_of(path), ids.last_of(path)) == (segments[0], segments[-1])
    first, others = ids.split_first(path)
    assert (first, others) == (segments[0], "/".join(segments[1:]))
    before, last = ids.split_last(path)
    assert (before, last) == (ids.without_last(path), segments[-1])
    assert ids.without_last(path) == "/".join(segments[:-1])


@given(PATHS, st.just("") | SEGMENTS, st.none() | NUMBERS)
def test_what_an_event_says_beside_the_id_is_the_run(
    stem: str, run: str, number: int | None
) -> None:
    task_id = stem if number is None else ids.numbered(stem, number)
    assert ids.run_by(task_id, ids.run_beside(task_id, run)) == run
    # Nothing is said of the tasks of a run, nor of those with a plain id.
    assert ids.run_beside(ids.in_run("night", task_id), "night") is None
    assert ids.run_beside(ids.first_of(task_id), "") is None
    # Journals of earlier versions say nothing.
    assert ids.run_by(task_id, None) == ids.folder_of(task_id)


@given(SEGMENTS, NUMBERS)
def test_one_segment_is_of_no_run(name: str, number: int) -> None:
    for task_id in (name, ids.numbered(name, number)):
        assert ids.run_of(task_id) == ids.name_of(task_id) == ""
        assert ids.without_run(task_id) == ""


@given(PATHS, NUMBERS)
def test_the_runs_of_a_task_follow_each_other(stem: str, number: int) -> None:
    runs = [stem]
    while len(runs) < number:
        runs.append(ids.next_id(runs[-1]))
    assert [ids.number_of(run) for run in runs] == list(range(1, number + 1))
    assert ids.earlier_ids(runs[-1]) == runs[:-1]


@given(PATHS, NUMBERS)
def test_the_id_of_an_escalation_says_of_which_task_and_time(
    task_id: str, number: int
) -> None:
    name = ids.escalation_id(task_id, number)
    assert ids.task_of_escalation(name) == (task_id, number)
    assert ids.task_of_escalation(ids.escalation_id(task_id)) == (task_id, 1)
    # No task is called so.
    assert ids.id_problem(name)


@pytest.mark.parametrize("tail", ["@", "@0", "@-1", "@x", "@1.5"])
def test_a_number_of_an_escalation_that_is_none_means_nothing(tail: str) -> None:
    assert ids.task_of_escalation(f"escalation/load{tail}") == ("load", 0)
    assert ids.task_of_escalation("escalation")[0] == ""


@given(SEGMENTS, st.lists(PATHS, min_size=1, max_size=3, unique=True))
def test_of_many_those_of_a_run_are_named(run_id: str, names: list[str]) -> None:
    task_ids = ids.ids_in_run(run_id, names)
    again = [ids.next_id(task_id) for task_id in task_ids]
    # A run whose id begins as that of another is another; so is no run.
    others = [*ids.ids_in_run(f"{run_id}7", names), run_id, f"{run_id}7"]
    assert ids.names_in_run(run_id, [*task_ids, *others, *again]) == names


SLOTS = st.sampled_from(
    ["2026-11-26T0700Z", "2026-11-26T070001Z", "2026-11-26T070001.000250Z"]
)


@given(SEGMENTS, SLOTS, PATHS)
def test_what_a_schedule_makes_names_it(name: str, slot: str, task: str) -> None:
    made = ids.made_id(name, slot, is_run=False)
    assert (name, slot, made) in ids.makers_of(ids.next_id(made))
    run_id = ids.made_id(name, slot, is_run=True)
    assert (name, slot, run_id) in ids.makers_of(ids.in_run(run_id, task))
    # A task on its own is of no run.
    assert ids.makers_of(run_id) == []


WHOLE = st.tuples(
    st.lists(
        st.from_regex(ids._SEGMENT, fullmatch=True)
        | st.sampled_from(["a", "A", "1.log"]),
        min_size=1,
        max_size=4,
    ).map("/".join),
    st.just("") | NUMBERS.map("~{}".format),
).map("".join)


@given(WHOLE, WHOLE)
def test_no_two_ids_share_a_file_a_branch_or_a_folder(one: str, two: str) -> None:
    """Also where upper and lower case are the same."""
    for each in (ids.file_name, _coding_work.name_of_tree):
        assert (each(one).lower() == each(two).lower()) == (one == two)
        assert "/" not in each(one)
        # Git refuses these, and ".lock" at the end.
        assert not {*"~^:?*[\\ ."} & {*each(one)}
        assert "@{" not in each(one)
    assert ids.file_name(one) == _coding_work.name_of_tree(one)
    folders = [[part.lower() for part in ids.folders_of(each)] for each in (one, two)]
    assert (folders[0] == folders[1]) == (one == two)
    assert not any(part.endswith(".log") for part in folders[0])


@given(st.text("aB", min_size=200, max_size=200))
def test_a_name_of_a_file_is_no_longer_than_files_may_have(name: str) -> None:
    assert len(ids.file_name(name)) <= 255


@pytest.mark.parametrize(
    "name",
    ["escalation/a", "escalation/a/b@2", "waiver/x", "budget-b/1", "budget-b/1-2"],
)
def test_ids_by_which_people_are_asked_have_a_form(name: str) -> None:
    assert ids.asked_form(name)
    assert not ids.asked_form(f"x{name}")
    assert not ids.asked_form(name.replace("/", "-"))
