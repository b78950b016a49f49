"""What a report says, to programs and to people."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st
from tests.ext.simulation.plans.plans import chain, work
from tests.house.pictures import boxes, drawn, texts
from tests.house.tools.examples import examples

from taskorch import Resources, RetryPolicy, Task, TaskOrchestrator
from taskorch.ext.simulation._plans._picture import page
from taskorch.ext.simulation._plans._report import number, percent
from taskorch.kit.drawing import lanes
from taskorch.kit.words import duration


def fan(count, **options):
    return [Task.call(work, id=f"t{n}", **options) for n in range(count)]


# -- what more would save ----------------------------------------------------------


def test_one_more_of_a_resource_is_room_for_one_task_more():
    orch = TaskOrchestrator(resources={"cpu": 4, "memory_mb": 1_024, "gpu": 2})
    tasks = fan(3, resources=Resources(cpu=1, memory_mb=512))
    report = orch.simulate(tasks, 10)
    best = report.bottleneck
    assert (best.kind, best.name, best.amount) == ("resource", "memory_mb", 512)
    assert best.what == "512 more memory_mb"
    assert (best.makespan, best.percent) == (10.0, 50.0)
    tasks = fan(3, resources=Resources(cpu=4))
    assert orch.simulate(tasks, 10).bottleneck.what == "4 more cpu"


def test_one_more_worker():
    orch = TaskOrchestrator()
    for name in ("a", "a-2"):
        orch.agent(name, capabilities={"review", "other"})(lambda task, context: None)
    tasks = [Task("review") for _ in range(6)]
    report = orch.simulate(tasks, 10)
    assert str(report.bottleneck).startswith(
        "One more worker for review would save 33 %"
    )
    both = [Task("x", requires=["review", "other"]) for _ in range(6)]
    assert (
        orch.simulate(both, 10).bottleneck.what
        == "one more worker for other and review"
    )


def test_a_worker_is_full_when_its_capacity_is():
    orch = TaskOrchestrator()
    orch.agent(
        "a",
        capabilities={"x"},
        capacity=Resources(gpu=1),
        request=Resources(gpu=1),
        max_concurrency=None,
    )(lambda task, context: None)
    report = orch.simulate([Task("x") for _ in range(4)], 10)
    assert report.makespan == 40.0
    assert report.bottleneck.kind == "agent"
    assert report.critical_length == 10.0


def test_what_workers_take_for_a_task_that_says_nothing_is_short_too():
    orch = TaskOrchestrator(resources={"cpu": 1})
    orch.agent(
        "a", capabilities={"x"}, request=Resources(cpu=0.5), max_concurrency=None
    )(lambda task, context: None)
    report = orch.simulate([Task("x") for _ in range(3)], 10)
    assert report.bottleneck.what == "0.5 more cpu"
    assert report.lower_bound == 15.0


def test_more_that_saves_nothing_is_no_bottleneck():
    """Two slots and two cpus: more of one alone is of no use."""
    orch = TaskOrchestrator(concurrency=2, resources={"cpu": 2})
    report = orch.simulate(fan(4, resources=Resources(cpu=1)), 10)
    assert report.bottleneck is None
    assert {saving.kind for saving in report.savings} == {"slot", "resource"}
    assert str(report.savings[0]) == "One more slot would save nothing."
    assert "One more slot or one more cpu would save nothing by itself." in str(report)


def test_where_one_more_is_too_few_plenty_is_tried():
    """Six tasks on four slots take two rounds, as they would on five."""
    report = TaskOrchestrator(concurrency=4).simulate(fan(6), 10)
    (saving,) = report.savings
    assert report.bottleneck is None
    assert (saving.percent, saving.plenty) == (0.0, 50.0)
    assert str(report).endswith("One more slot would save nothing, but plenty 50 %.")


def test_the_lower_bound_counts_workers():
    orch = TaskOrchestrator()
    orch.agent("a", capabilities={"x"}, max_concurrency=2)(lambda task, context: None)
    report = orch.simulate([Task("x") for _ in range(5)], 10)
    assert report.lower_bound == 25.0
    assert report.makespan == 30.0
    assert "this one is 20 % above that" in str(report)


# -- for people --------------------------------------------------------------------


def test_the_sentences():
    orch = TaskOrchestrator(concurrency=2, resources={"cpu": 8, "gpu": 1})
    for n in range(7):
        orch.agent(f"a{n}", capabilities={f"x{n}"})(lambda task, context: None)
    tasks = [
        *fan(3, resources=Resources(cpu=1.5)),
        *[Task(f"x{n}", id=f"x{n}", after=["t2"]) for n in range(7)],
    ]
    text = str(orch.simulate(tasks, {"work": 60, **{f"x{n}": 30 for n in range(7)}}))
    assert text.splitlines() == [
        "10 tasks would take 3 min 30 s.",
        "Its critical path takes 1 min 30 s: t2 → x0.",
        (
            "No schedule takes less than 3 min 15 s with what there is: this one is "
            "7.7 % above that."
        ),
        "In use, at the peak and on average:",
        "  slots      2 of 2  1.86",
        "  cpu        3 of 8  1.29",
        "  worker a0  1 of 1  0.143",
        "  worker a1  1 of 1  0.143",
        "  worker a2  1 of 1  0.143",
        "  worker a3  1 of 1  0.143",
        "  worker a4  1 of 1  0.143",
        "  … and 2 more workers",
        "One more slot would save 29 %: it would take 2 min 30 s.",
        (
            "One more worker for x0 or one more worker for x1 or one more worker for x2 or "
            "one more worker for x3 or one more worker for x4 or … would save nothing by "
            "itself."
        ),
    ]


def test_one_of_a_thing_is_one():
    report = TaskOrchestrator().simulate(
        [Task.call(work, id="a", retry=RetryPolicy(2, base=0))],
        1,
        failures=lambda _task, attempt: attempt == 1,
    )
    assert "Of 2 attempts, 1 is a retry." in str(report)
    assert repr(report) == "<SimulationReport: 1 task, 2 s>"
    orch = TaskOrchestrator()
    for n in range(6):
        orch.agent(f"a{n}", capabilities={f"x{n}"})(lambda t, c: None)
    text = str(orch.simulate([Task(f"x{n}") for n in range(6)], 1))
    assert "  … and 1 more worker\n" in text


def test_a_report_is_short_where_it_is_shown_as_an_object():
    report = TaskOrchestrator().simulate(chain("a", "b"), 60)
    assert repr(report) == "<SimulationReport: 2 tasks, 2 min>"


def test_many_reasons_are_cut_short():
    orch = TaskOrchestrator()
    report = orch.simulate([Task(f"x{n}", id=f"x{n}") for n in range(9)], 1)
    assert "9 tasks could never run:" in str(report)
    assert "… and 4 more" in str(report)
    assert "x4" in str(report)
    assert "x6" not in str(report)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (3e-9, "3 ns"),
        (0.000_25, "250 µs"),
        (0.000_999_9, "1 ms"),
        (0.0125, "12.5 ms"),
        (0.9999, "1 s"),
        (12.34, "12.3 s"),
        (59.99, "1 min"),
        (61, "1 min 1 s"),
        (3_599.7, "1 h"),
        (12_000, "3 h 20 min"),
        (86_399, "1 d"),
        (100_000, "1 d 4 h"),
    ],
)
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


def test_numbers_and_shares_in_words():
    assert [number(n) for n in (3, 2.25, 0.1, 1_024, 123.4)] == [
        "3",
        "2.25",
        "0.1",
        "1,024",
        "123",
    ]
    assert [percent(p) for p in (0.01, 0.44, 6.65, 18.2)] == [
        "less than 0.1 %",
        "0.44 %",
        "6.7 %",
        "18 %",
    ]


# -- pictures ----------------------------------------------------------------------


def picture(report):
    """The page of a report, parsed, once it is seen to be in order."""
    return drawn(report._repr_html_())


def test_the_picture_shows_every_attempt_and_marks_the_critical_path():
    tasks = [*chain("a", "b"), Task.call(work, id="c")]
    tree = picture(TaskOrchestrator().simulate(tasks, {"c": 0.001, "work": 5}))
    bars = boxes(tree)
    assert len(bars) == 3
    assert all("attempt 1: completed" in told for told in bars)
    assert sum("on the critical path" in told for told in bars) == 2
    assert "completedcritical path" in "".join(tree.itertext())


def test_the_legend_names_what_is_there():
    def legend(text):
        found = re.findall(r"</span>([a-z ]+)</span>", text)
        assert found
        return found

    orch = TaskOrchestrator()
    task = Task.call(work, id="a", retry=RetryPolicy(2, base=0), timeout=2)
    assert legend(orch.simulate([task], 1)._repr_html_()) == ["critical path"]
    wait = Task.wait_for("go", id="w")
    report = orch.simulate([task, wait, *fan(2)], {"a": 5, "w": 1, "work": 20})
    assert legend(report._repr_html_()) == [
        "completed",
        "stopped",
        "waited",
        "critical path",
    ]
    report = orch.simulate(
        [task, *fan(2)], 1, failures=lambda one, n: one.id == "a" and n == 1
    )
    assert "failed" in legend(report._repr_html_())


def test_a_picture_of_much_is_cut_short():
    orch = TaskOrchestrator(concurrency=200)
    orch.agent("a-very-long-name-of-an-agent", capabilities={"x"})(lambda t, c: None)
    tasks = [*fan(150), *[Task("x") for _ in range(3)]]
    report = orch.simulate(tasks, 1)
    tree = picture(report)
    assert "91 more attempts, which are not shown" in report._repr_html_()
    assert len(boxes(tree)) == 59 + 3
    report = TaskOrchestrator(concurrency=50).simulate(fan(2_100), 1)
    assert len(boxes(picture(report))) == 2_000
    assert "100 more attempts, which are not shown" in report._repr_html_()


def test_of_very_many_workers_some_are_not_shown():
    bars = [(f"t{n}", 0, 1, f"a{n}", 1, "completed") for n in range(70)]
    html = page("", bars, ())
    assert len(boxes(drawn(html))) == 60
    assert "10 more attempts, which are not shown" in html


def test_bars_begin_and_end_at_their_times():
    bars = [("a", 0, 300, "x", 1, "completed"), ("b", 300, 600, "x", 1, "failed")]
    (ax, _, aw, _), (bx, _, bw, _) = boxes(drawn(page("", bars, ()))).values()
    assert (bx, aw) == (ax + aw, bw)


def test_a_picture_of_nothing_has_its_sentence():
    html = TaskOrchestrator().simulate([], 1)._repr_html_()
    assert "".join(drawn(html).itertext()) == "No tasks."
    assert "<svg" not in html
    tree = picture(TaskOrchestrator().simulate(chain("a"), 0))
    assert texts(tree) == ["0", "local"]


# -- lanes -------------------------------------------------------------------------


@settings(max_examples=examples(40))
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=30))
def test_lanes_never_overlap_and_are_as_few_as_can_be(pairs):
    spans = [(start, start + length) for start, length in pairs]
    found = lanes(spans)
    by_lane = {}
    for span, lane in zip(spans, found, strict=True):
        by_lane.setdefault(lane, []).append(span)
    for members in by_lane.values():
        for one, following in pairwise(sorted(members)):
            assert one[1] <= following[0]
    long = [span for span in spans if span[0] < span[1]]
    most = max((sum(s <= start < e for s, e in long) for start, _ in long), default=0)
    assert len(by_lane) <= most + 1
