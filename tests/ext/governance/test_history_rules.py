"""History rules: the folds say what somebody says who reads the whole history."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch.ext.governance import (
    ConstitutionalRuntime,
    HistoryRule,
    Operation,
    Past,
    Policy,
    PolicyCase,
)

TYPES = ("deploy", "review", "deploy-eu")
TENANTS = ("ada", "bob")
FORMS = ("formerly", "count", "since", "never_after")
PASTS = st.builds(
    Past,
    st.sampled_from(["started", "completed", "failed"]),
    st.sampled_from(["deploy", "deploy*", "*", "review"]),
)


class Happened(NamedTuple):
    event: str
    ago: float
    type: str
    owner: str
    id: str


HAPPENED = st.builds(
    Happened,
    st.sampled_from(["submitted", "started", "completed", "failed", "cancelled"]),
    st.integers(0, 40).map(float),
    st.sampled_from(TYPES),
    st.sampled_from(TENANTS),
    st.sampled_from(["a", "b", "c"]),
)


@st.composite
def rules(draw: st.DrawFn) -> HistoryRule:
    form = draw(st.sampled_from(FORMS))
    fields: dict[str, Any] = {form: draw(PASTS)}
    if form == "count":
        fields["at_most"] = draw(st.integers(0, 4))
    if form == "since":
        fields["no"] = draw(PASTS)
    fields["within"] = draw(st.none() | st.integers(1, 30).map(float))
    fields["same"] = draw(st.sampled_from([(), ("owner",), ("owner", "task.type")]))
    return HistoryRule("h", **fields)


def is_of(past: Past, event: Happened) -> bool:
    return past.event == event.event and fnmatchcase(event.type, past.type)


def holds(rule: HistoryRule, events: list[Happened], asked: Operation) -> bool:
    """What the rule means, by the whole history: the oldest event first."""
    past = rule.past
    alike = [
        (place, each)
        for place, each in enumerate(events)
        if ("owner" not in rule.same or each.owner == asked.owner)
        and ("task.type" not in rule.same or each.type == asked.type)
    ]
    hits = [(place, each) for place, each in alike if is_of(past, each)]
    recent = [
        (p, each) for p, each in hits if rule.within is None or each.ago <= rule.within
    ]
    if rule.count is not None:
        counted = {place for place, _ in recent}
        if past.event == "started":
            # An attempt counts on as long as no event of its task ends it.
            counted |= {
                place
                for place, each in hits
                if not any(
                    later.id == each.id and later.event != "submitted"
                    for later in events[place + 1 :]
                )
            }
        moments = {"submit": "submitted", "start": "started"}
        itself = Happened(
            moments[asked.moment], 0, asked.type, str(asked.owner), asked.id
        )
        return len(counted) + is_of(past, itself) <= (rule.at_most or 0)
    latest = recent[-1] if recent and recent[-1] == hits[-1] else None
    if rule.never_after is not None:
        return latest is None
    if latest is None:
        return False
    if rule.no is None:
        return True
    return not any(place > latest[0] and is_of(rule.no, each) for place, each in alike)


def verdict_of(rule: HistoryRule, events: list[Happened], asked: Operation) -> Any:
    policy = Policy("p", "safety", "critical", history=[rule], at=("submit", "start"))
    before = [dict(each._asdict()) for each in events]
    return ConstitutionalRuntime([policy]).judge_case(
        PolicyCase(asked, "allow", before=before), now=1_000.0
    )


@settings(max_examples=examples(300))
@given(
    rules(),
    st.lists(HAPPENED, max_size=12),
    st.sampled_from(TYPES),
    st.sampled_from(TENANTS),
    st.sampled_from(["submit", "start"]),
)
def test_a_fold_says_what_the_whole_history_says(
    rule: HistoryRule, events: list[Happened], kind: str, tenant: str, moment: Any
) -> None:
    events = sorted(events, key=lambda each: -each.ago)
    asked = Operation(type=kind, id="new", owner=tenant, moment=moment)
    verdict = verdict_of(rule, events, asked)
    assert verdict.compliant == holds(rule, events, asked)
    (evaluation,) = verdict.evaluations
    if evaluation.event is not None:
        # The event that it names is one that the rule looks for, or the one between.
        named = events[evaluation.event - 1]
        looked_for = [past for past in (rule.past, rule.no) if past is not None]
        assert any(is_of(past, named) for past in looked_for)


@pytest.mark.parametrize(
    ("story", "holds"),
    [
        ("", False),
        ("r", True),
        ("rc", False),
        ("rcr", True),
        ("cr", True),
        ("rcrc", False),
    ],
)
def test_since_looks_at_what_came_after_the_latest(story: str, holds: bool) -> None:
    """A review, and no change since."""
    rule = HistoryRule(
        "h", since=Past("completed", "review"), no=Past("started", "change")
    )
    names = {"r": ("completed", "review"), "c": ("started", "change")}
    events = [
        Happened(names[letter][0], 50.0 - n, names[letter][1], "ada", f"t{n}")
        for n, letter in enumerate(story)
    ]
    verdict = verdict_of(rule, events, Operation(type="ship", moment="start"))
    assert verdict.compliant == holds


def test_it_is_said_when_a_window_opens() -> None:
    rule = HistoryRule("h", count=Past("started", "deploy"), at_most=2, within=60)
    events = [
        Happened("started", ago, "deploy", "ada", name)
        for name, ago in (("a", 50.0), ("b", 30.0), ("c", 10.0))
    ] + [Happened("completed", 5.0, "deploy", "ada", name) for name in "abc"]
    asked = Operation(type="deploy", moment="start")
    verdict = verdict_of(rule, events, asked)
    assert verdict.decision == "deny"
    # The first two of the three must leave the window.
    assert verdict.opens_at == pytest.approx(1_000 + 60 - 30)


def test_a_clock_that_is_set_back_brings_nothing_back() -> None:
    rule = HistoryRule("h", never_after=Past("failed", "*"), within=60)
    policy = Policy("p", "safety", "critical", history=[rule])
    rt = ConstitutionalRuntime([policy])
    before = [{"event": "failed", "ago": 100, "type": "deploy"}]
    case = PolicyCase(Operation(type="deploy"), "allow", before=before)
    assert rt.judge_case(case, now=1_000.0).decision == "allow"
    more = [*before, {"event": "completed", "ago": 0, "type": "deploy"}]
    case = PolicyCase(Operation(type="deploy"), "allow", before=more)
    assert rt.judge_case(case, now=1_000.0).decision == "allow"
