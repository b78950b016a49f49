"""What goes between us and a worker, however it is cut on its way."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from taskorch.api.executors.wire import Frames, frame
from taskorch.core.executors import wire

ONE = (1).to_bytes(wire.NUMBER)
FOUR = [
    (wire.READY, wire.NOBODY, b""),
    (wire.END, ONE, b"an end"),
    (wire.TOLD, b"tko3\1\1\1\1", b"tko3 is nothing special within"),
    (wire.RETURNED, b"\xff" * wire.NUMBER, b"x"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 12, 13, 14, 20, 21, 22, 1000])
def test_frames_come_whole_and_in_order_however_they_are_cut(size: int) -> None:
    data = b"".join(frame(kind, who, body[:3], body[3:]) for kind, who, body in FOUR)
    frames, found = Frames(), []
    for at in range(0, len(data), size):
        found += frames.feed(data[at : at + size])
        assert not frames.is_garbled
    assert found == FOUR


@pytest.mark.parametrize(
    "rubbish",
    [
        b"x",
        b"tk0",
        b"tko1",
        b"\0" * 21,
        frame(0, ONE, b"no kind"),
        frame(20, ONE, b"no kind"),
        frame(10, ONE, b"no kind"),
        frame(23, ONE, b"no kind"),
        frame(99, ONE, b"no kind"),
        b"tko1" + frame(wire.END, ONE, b"another mark")[4:],
    ],
)
def test_what_is_no_frame_is_seen_and_those_before_it_are_found(rubbish: bytes) -> None:
    frames = Frames()
    good = frame(wire.LOGGED, ONE, b"said")
    assert frames.feed(good + rubbish) == [(wire.LOGGED, ONE, b"said")]
    assert frames.is_garbled


@pytest.mark.parametrize("at", [21, 22, 60, 120, 121, 125])
def test_what_comes_into_the_midst_of_a_frame_is_no_part_of_its_body(at: int) -> None:
    """As when a task writes to the descriptor while a large result is on its way."""
    whole = frame(wire.RETURNED, ONE, bytes(100))
    frames = Frames()
    data = whole[:at] + b"rubbish" + whole[at:]
    assert frames.feed(data + frame(wire.END, ONE, b"x")) == []
    assert frames.is_garbled


def edited(data: bytes, edits: list[tuple[str, int, int]]) -> bytes:
    for kind, at, size in edits:
        part = data[at : at + size]
        if kind == "drop":
            data = data[:at] + data[at + size :]
        elif kind == "double":
            data = data[:at] + part + data[at:]
        elif kind == "swap":
            data = data[:at] + data[at + size :] + part
        else:
            data = data[:at]
    return data


@given(
    st.lists(st.binary(max_size=40), min_size=1, max_size=8),
    st.lists(
        st.tuples(
            st.sampled_from(["drop", "double", "swap", "cut"]),
            st.integers(0, 400),
            st.integers(1, 200),
        ),
        max_size=2,
    ),
    st.lists(st.integers(1, 60), max_size=20),
)
def test_a_lossy_wire_makes_no_other_bodies(
    bodies: list[bytes], edits: list[tuple[str, int, int]], cuts: list[int]
) -> None:
    """What was dropped, doubled or cut is not there; what is there is what was sent."""
    numbered = [(i.to_bytes(wire.NUMBER), body) for i, body in enumerate(bodies, 1)]
    whole = b"".join(frame(wire.END, number, body) for number, body in numbered)
    data, frames, came = edited(whole, edits), Frames(), []
    for size in [*cuts, len(data)]:
        came += frames.feed(data[:size])
        data = data[size:]
        if frames.is_garbled:
            break
    assert {(number, body) for _, number, body in came} <= {*numbered}
    if not edits:
        assert came == [(wire.END, number, body) for number, body in numbered]
