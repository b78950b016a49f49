"""What is said of ends: promises, changes, and what nobody knows."""

from datetime import UTC, datetime, timedelta

from taskorch.model import EndChange, InTime, Promise, TimelyChange, WhatIf

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)


def later(seconds):
    return AT + timedelta(seconds=seconds)


def test_what_is_known_in_part_is_said_in_part():
    half = Promise("x", "running", AT, p50=later(60), draws=3, deadline=later(90))
    assert str(half).startswith("x ends within 1 min (")
    assert "nobody knows" in str(half)
    least = Promise("x", "waiting", AT, not_before=later(5), unknown=("No time.",))
    assert str(least).startswith("x does not end within 5 s (")
    assert str(least).endswith("No time.")
    known = Promise(
        "x", "waiting", AT, p50=later(1), p90=later(2), basis=("It is so.",)
    )
    assert str(known).endswith("It is so.")
    assert known.to_dict()["p90"] == "2026-11-29T12:00:02.000Z"


def test_a_change_of_an_end_is_later_sooner_none_or_unknown():
    assert str(EndChange("x", None, AT, None)) == "x has no end that is known"
    assert str(EndChange("x", AT, AT, 0.0)) == "x ends as before"
    assert str(EndChange("x", AT, later(5), 5.0)) == "x ends 5 s later"
    assert str(EndChange("x", later(5), AT, -5.0)) == "x ends 5 s sooner"


def test_a_table_shows_what_changes_most():
    ends = [EndChange(f"t{n}", later(5), later(9), 4.0) for n in range(31)]
    ends += [EndChange("u", None, None, None)]
    table = str(WhatIf(AT, ("orch.f()",), tuple(ends), 5))
    assert "… and 2 more, which change less." in table
    few = str(WhatIf(AT, (), (EndChange("u", None, AT, None),), 5, ("Who knows.",)))
    assert few.splitlines()[1:] == ["u  unknown   in 0 s", "Who knows."]
    assert str(WhatIf(AT, (), ())) == "Nothing is open."
    same = str(WhatIf(AT, (), (EndChange("a", AT, AT, 0.0), ends[0])))
    assert "as before" in same
    assert "4 s later" in same


def test_a_change_in_time_names_who_pays_for_it():
    others = tuple([EndChange(f"t{n}", AT, later(5), 5.0) for n in range(5)])
    change = TimelyChange("pool", "orch.f()", AT, others)
    assert str(change).endswith("t2 ends 5 s later; and 2 more")
    answer = InTime(Promise("x", "waiting", AT), (change,), ("Not all was tried.",))
    assert str(answer).endswith("Not all was tried.")
    assert answer.to_dict()["changes"][0]["kind"] == "pool"
    assert "nothing else ends later" in str(TimelyChange("pool", "orch.f()", AT))
    assert str(InTime(Promise("x", "waiting", AT))) == "Nobody knows when x ends."
