"""Pictures: well formed, escaped, readable, and of bounded size."""

import random
import re
import threading
from itertools import combinations, pairwise

import pytest
from hypothesis import given, strategies as st
from tests.api.tools import PATIENCE
from tests.core.workflows.functions import zero
from tests.house.pictures import boxes, drawn, texts

from taskorch import Approval, TaskOrchestrator, Workflow
from taskorch.core.workflows import _pictures
from taskorch.kit.drawing import fitted, said, width_of

_PATH = "{http://www.w3.org/2000/svg}path"


def diamond() -> Workflow:
    wf = Workflow("d")
    wf.chain(
        wf.task(zero, id="a"),
        [wf.task(zero, id="b"), wf.task(zero, id="c")],
        wf.task(zero, id="d"),
    )
    return wf


def page(parents, states=()):
    return drawn(_pictures.page("t", parents, {}, dict(states)))


def lines(root):
    """The lines of a picture, each from a point to a point; and the tips of arrows."""
    found, tips = [], []
    for path in root.iter(_PATH):
        d = path.get("d")
        if path.get("fill") == "none":
            shape = r"M(\S+) (\S+)C\S+ \S+ \S+ \S+ (\S+) ([^MH]+)(?:H([^M]+))?"
            found += [
                tuple(map(float, m if m[4] else m[:4])) for m in re.findall(shape, d)
            ]
        else:
            tips += [tuple(map(float, m)) for m in re.findall(r"L(\S+) ([^L]+)L", d)]
    return found, tips


# -- Mermaid -----------------------------------------------------------------------


def test_mermaid_shows_every_task_and_dependency():
    assert diamond().to_mermaid() == (
        "flowchart TD\n"
        '    n0["a"]\n    n1["b"]\n    n2["c"]\n    n3["d"]\n'
        "    n0 --> n1\n    n0 --> n2\n    n1 --> n3\n    n2 --> n3\n"
    )
    assert Workflow("empty").to_mermaid() == "flowchart TD\n"


def test_mermaid_labels_are_nothing_but_text():
    text = _pictures.mermaid({'a"]; click x "#': (), "<b>`$:\n": ()})
    assert text == (
        'flowchart TD\n    n0["a#34;]; click x #34;#35;"]\n'
        '    n1["#60;b#62;#96;#36;#58;#10;"]\n'
    )


def test_what_mermaid_draws_only_when_told_says_so():
    few = {"t0": (), **{f"t{n + 1}": (f"t{n}",) for n in range(499)}}
    assert _pictures.mermaid(few).startswith("flowchart TD\n")
    more = {**few, "t500": ("t499",)}
    first, second, *_ = text = _pictures.mermaid(more).splitlines()
    assert first == (
        "%% Mermaid draws this if it was set up with "
        "mermaid.initialize({maxEdges: 501, maxTextSize: 50000})."
    )
    assert second == "flowchart TD"
    assert sum("-->" in line for line in text) == 500
    long = _pictures.mermaid({f"{n}/{'x' * 200}": () for n in range(300)})
    (size,) = re.findall(r"^%%.*maxEdges: 500, maxTextSize: (\d+)", long)
    assert int(size) >= len(long)


# -- notebooks ---------------------------------------------------------------------


def test_what_no_document_may_hold_is_replaced():
    html = _pictures.page("a\x00\x1b", {"b\ud800": ()}, {"b\ud800": "\x07\uffff"}, {})
    assert texts(drawn(html)) == ["b\N{REPLACEMENT CHARACTER}"]
    assert html.encode()
    assert said("a\tb\nc") == "a\tb\nc"


def random_graph(seed, tasks=60):
    draw = random.Random(seed)
    parents = {}
    for n in range(tasks):
        near = list(parents)[-15:]
        parents[f"t{n}"] = tuple(draw.sample(near, min(len(near), draw.randrange(4))))
    return parents


@pytest.mark.parametrize("seed", range(5))
def test_no_box_covers_another_or_a_line(seed):
    root = page(random_graph(seed))
    places = boxes(root).values()
    for (ax, ay, aw, ah), (bx, by, bw, bh) in combinations(places, 2):
        assert ax + aw < bx or bx + bw < ax or ay + ah < by or by + bh < ay
    found, tips = lines(root)
    assert len(found) > 60
    for x1, _, x2, y2, *further in found:
        # A line bends between columns, and goes straight on where it passes one.
        for x, y, wide, high in places:
            assert x2 <= x or x1 >= x + wide
            if further and x2 <= x < further[0]:
                assert not y <= y2 <= y + high
    assert set(tips) == {(x2, y2) for _, _, x2, y2, *further in found if not further}


@pytest.mark.parametrize("seed", range(5))
def test_the_lines_lead_where_the_dependencies_do(seed):
    parents = random_graph(seed)
    root = page(parents)
    left = {(x, y + high / 2): name for name, (x, y, _, high) in boxes(root).items()}
    right = {
        (x + wide, y + high / 2): name
        for name, (x, y, wide, high) in boxes(root).items()
    }
    after = {}
    for x1, y1, x2, y2, *further in lines(root)[0]:
        after.setdefault((x1, y1), []).append((further[0], y2) if further else (x2, y2))
    before = {name: set() for name in parents}
    for point, name in right.items():
        seen = list(after.get(point, ()))
        for at in seen:
            if at in left:
                before[left[at]].add(name)
            else:
                seen += after[at]
    assert all(before[name] <= set(parents[name]) for name in parents)

    def all_before(graph):
        found = {}
        for name in parents:
            found[name] = set(graph[name]).union(*(found[p] for p in graph[name]))
        return found

    assert all_before(before) == all_before(parents)
    missing = sum(len(set(parents[name]) - before[name]) for name in parents)
    assert missing > 0
    assert f"{missing} dependencies are left out" in "".join(root.itertext())


@pytest.mark.parametrize("wide", [True, False])
def test_a_large_workflow_is_shown_in_part_and_says_so(wide):
    wf = Workflow("w")
    nodes = [wf.task(zero, id=f"t{i}") for i in range(500)]
    if not wide:
        wf.chain(*nodes)
    html = wf._repr_html_()
    shown = texts(drawn(html))
    assert len(shown) == (30 if wide else 200)
    assert shown[-1] == ("… 471 more" if wide else "t199")
    assert f"and {471 if wide else 300} more tasks, which are not shown" in html


def test_of_too_many_those_that_need_a_look_are_shown():
    parents = {"first": (), **{f"t{n}": ("first",) for n in range(100)}}
    parents["last"] = tuple(f"t{n}" for n in range(100))
    states = {**dict.fromkeys(parents, "completed"), "t70": "failed", "t80": "running"}
    root = page(parents, states)
    shown = texts(root)
    assert {"first", "t0", "t70", "t80", "last", "… 71 more"} <= set(shown)
    assert "t71" not in shown
    # The box of the others is waited for, and waits.
    x, y, wide, high = boxes(root)["… 71 more"]
    ends = {(x1, y1) for x1, y1, *_ in lines(root)[0]}
    assert (x + wide, y + high / 2) in ends
    assert (x, y + high / 2) in lines(root)[1]
    assert "100 completed" in "".join(root.itertext())


def test_many_lines_to_the_very_same_meet_in_a_point():
    wf = Workflow("w")
    names = {group: [f"{group}{n}" for n in range(5)] for group in "abc"}
    tasks = [[wf.task(zero, id=name) for name in group] for group in names.values()]
    wf.chain(*tasks)
    root = drawn(wf._repr_html_())
    points = [
        (float(circle.get("cx")), float(circle.get("cy")))
        for circle in root.iter("{http://www.w3.org/2000/svg}circle")
    ]
    assert len(points) == 2
    found, tips = lines(root)
    assert len(found) == 4 * 5
    assert sum(line[2:4] in points for line in found) == 2 * 5
    assert sum(line[:2] in points for line in found) == 2 * 5
    assert len(tips) == 2 * 5
    assert not set(points) & set(tips)
    places = boxes(root)
    x = {name[:1]: place[0] for name, place in places.items()}
    (first, y), (second, _) = sorted(points)
    assert x["a"] < first < x["b"] < second < x["c"]
    assert y == places["a2\nzero"][1] + 15


def test_arrows_that_are_too_many_are_counted():
    def nearly_all(group, n):
        # No two of them wait for the very same.
        return tuple(f"{group}{m}" for m in range(29) if m != n)

    parents = {f"a{n}": () for n in range(29)}
    for before, group in pairwise("abcdef"):
        parents |= {f"{group}{n}": nearly_all(before, n) for n in range(29)}
    root = page(parents)
    assert len(lines(root)[0]) == 3_000
    assert f"{5 * 29 * 28 - 3_000:,} dependencies are left out: there are too many" in (
        "".join(root.itertext())
    )
    assert len(_pictures.page("t", parents, {}, {})) < 500_000


@given(text=st.text("iW名abc", max_size=12), more=st.floats(0, 40))
def test_only_what_has_no_room_is_cut_and_only_as_much_as_it_must(text, more):
    assert fitted(text, width_of(text, 12), 12) == text
    assert fitted(text, width_of(text, 12) + more, 12) == text
    cut = fitted(text, max(0.0, width_of(text, 12) - more), 12)
    if cut not in ("", text):
        first, last = cut.split("…")
        # One more letter would not have had room; the end gets as many as the beginning.
        longer = (
            f"{first}…{text[-len(last) - 1 :]}"
            if len(last) <= len(first)
            else f"{text[: len(first) + 1]}…{last}"
        )
        assert width_of(longer, 12) > width_of(text, 12) - more - 1e-6


@pytest.mark.parametrize("name", ["W" * 60, "i" * 300, "名" * 40, "a" * 26, "x/y" * 9])
def test_what_is_cut_fits(name):
    for room in range(30, 200):
        label = fitted(name, room, 12)
        assert width_of(label, 12) <= room
        if label and label != name:
            first, last = label.split("…")
            assert name.startswith(first)
            assert name.endswith(last)
    page({name: ()})


def test_a_name_of_which_next_to_nothing_fits_is_not_shown():
    assert fitted("abcdefgh", 25, 12) == ""
    assert fitted("", 0, 12) == ""
    assert fitted("ab", 25, 12) == "ab"
    assert width_of("e\N{COMBINING ACUTE ACCENT}", 12) == width_of("e", 12)


def test_gates_are_round():
    wf = Workflow("w")
    wf.phase("one", gate=Approval()).task(zero, id="a")
    html = wf._repr_html_()
    assert [html.count(f'rx="{round_}"') for round_ in (5, 15)] == [1, 2]


def test_the_calls_of_a_map_hang_on_it():
    wf = Workflow("w")
    source = wf.task(list, "ab", id="source")
    wf.task(len, wf.map(str, source, id="map"), id="below")
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(wf, id="x")
        run.result(60)
        root = drawn(run._repr_html_())
    columns = {told.splitlines()[0]: x for told, (x, *_) in boxes(root).items()}
    assert columns["source"] < columns["map/0"] == columns["map/1"] < columns["map"]
    assert columns["map"] < columns["below"]


MAY = threading.Event()


def when_it_may(value):
    assert MAY.wait(PATIENCE)
    return value


@pytest.mark.parametrize("durable", [False, True])
def test_a_run_whose_tasks_have_left_memory_is_shown_as_before(durable, tmp_path):
    """Who has kept the run still sees what was added, and by what."""
    pictures = []
    for keep in (0, 100):
        journal = tmp_path / f"{keep}.db" if durable else None
        with TaskOrchestrator(journal=journal, keep_finished=keep) as orch:
            wf = Workflow("w")
            wf.map(abs, wf.task(when_it_may, [1, 2], id="source"), id="up")
            MAY.clear()
            run = orch.workflows.start(wf, id="r")
            MAY.set()
            assert orch.wait(PATIENCE)
            orch.submit(zero).result(PATIENCE)
            pictures.append(run.picture())
            assert orch.workflows.start(wf, id="r").handles == run.handles
    assert pictures[0] == pictures[1]


def test_what_is_added_to_a_workflow_later_is_not_in_its_run():
    wf = Workflow("w")
    for name in "abc":
        wf.task(zero, id=name)
    wf.chain("a", "c")
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(wf)
        run.result(60)
        before = run._repr_html_()
        wf.chain("b", "c")
        assert run._repr_html_() == before
