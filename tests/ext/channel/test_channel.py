"""Messages in few bytes, and never a guess."""

from __future__ import annotations

import json
from math import inf, nan

import pytest
from hypothesis import given, strategies as st

from taskorch.errors import InvalidTaskError
from taskorch.ext import channel
from taskorch.ext.channel import Capabilities, Channel, FrameError, train

needs_zstd = pytest.mark.skipif(not channel.can_compress(), reason="there is no zstd")


def event(number):
    return {
        "event": "task_completed",
        "seq": number,
        "task_id": f"job/j{number // 8}/{number}",
        "attempt": 1,
        "agent_id": "generalist.index",
        "latency_ns": 1_000_000 + 7_919 * number % 99_991,
        "payload": f"secret-{number}",
    }


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.lists(VALUES, min_size=1), st.booleans())
def test_what_is_sent_arrives_however_it_is_coded(messages, streams):
    there = Channel(streams=streams)
    here = Channel(there.capabilities, streams=streams)
    assert [there.receive(here.send(one)) for one in messages] == messages
    assert [Channel().receive(Channel().send(one)) for one in messages] == messages


@needs_zstd
def test_a_learnt_dictionary_makes_messages_short_once_both_sides_have_it():
    content = train(map(event, range(500)))
    assert b"secret" not in content
    here, there = Channel(), Channel()
    here.agree(there.capabilities)
    name = here.learn(content)
    before = len(here.send(event(600)))
    assert there.learn(content) == name
    here.agree(there.capabilities)
    frame = here.send(event(600))
    assert len(frame) < before / 2
    assert there.receive(frame) == event(600)
    # A new one is used after a handshake; what is under way can still be read.
    newer = train(map(event, range(1_000, 1_500)))
    here.learn(newer)
    there.learn(newer)
    here.agree(there.capabilities)
    assert there.receive(frame) == event(600)
    assert there.receive(here.send(event(601))) == event(601)
    with pytest.raises(FrameError, match="not known here"):
        Channel().receive(frame)


@needs_zstd
@given(st.binary(max_size=60), st.sampled_from([0x81, 0x82, 0x83]))
def test_what_is_damaged_or_forged_is_refused(body, kind):
    try:
        found = Channel().receive(bytes([kind]) + body)
    except FrameError:
        return
    json.dumps(found)


@needs_zstd
def test_what_is_half_received_is_refused():
    here = Channel(Capabilities(("zstd",)))
    frame = here.send(["a long text, which is worth compressing"] * 20)
    assert frame[0] == 0x81
    with pytest.raises(FrameError):
        Channel().receive(frame[:-3])


@needs_zstd
def test_a_bomb_is_bounded(monkeypatch):
    here = Channel(Capabilities(("zstd",)))
    frame = here.send("a" * 1_000_000)
    assert len(frame) < 1_000
    monkeypatch.setattr(channel, "MOST_BYTES", 1_000)
    with pytest.raises(FrameError, match="larger"):
        Channel().receive(frame)
    with pytest.raises(InvalidTaskError, match="at the most"):
        here.send("a" * 2_000)


def test_who_offers_nothing_understood_is_sent_json():
    for said in (None, [], {"codings": "zstd"}, {"codings": [1, "lzma"]}):
        here = Channel(Capabilities.of(said))
        assert json.loads(here.send({"a": 1})) == {"a": 1}
        assert here.plain_messages == 1
    assert Capabilities.of(Channel().capabilities.to_dict()).codings[-1] == "json"


def test_what_json_cannot_say_is_refused_and_noise_is_no_message():
    for bad in ({1, 2}, b"x", nan, [inf], {"a": -inf}):
        with pytest.raises(InvalidTaskError):
            Channel().send(bad)
    for bad in (b"", b"\xff\xfe", b"{", b"\x00"):
        with pytest.raises(FrameError):
            Channel().receive(bad)


def test_the_entropy_is_that_of_what_was_sent():
    here = Channel()
    assert here.entropy == 0
    here.send("aaaa")
    assert 0 < here.entropy < 2


def test_messages_over_http_are_frames_where_both_sides_can_read_them():
    one, other = channel.Wire(), channel.Wire()
    said = json.dumps(
        {"task_id": "a", "attempt": 1, "results": [{"fence": 3}]} | {"x": "y" * 50}
    ).encode()
    for offered in (
        None,
        "",
        "application/json",
        "*/*",
        f"{channel.MEDIA};dictionary=0",
    ):
        assert one.packed(said, offered) == (said, "application/json")
    body, kind = one.packed(said, other.offer)
    assert other.unpacked(body, kind, 10_000) == said
    assert other.unpacked(said, "application/json", 10) == said
    if channel.can_compress():
        assert kind == channel.MEDIA
        assert len(body) < len(said)
        with pytest.raises(FrameError, match="larger than 20"):
            other.unpacked(body, kind, 20)


@needs_zstd
def test_workers_and_their_service_talk_in_frames():
    from taskorch import Task, TaskOrchestrator
    from taskorch.ext.remote_workers._line import Line, ServiceAddress
    from taskorch.ext.service import create_app, serve

    orch = TaskOrchestrator(unknown_capability="wait")
    app = create_app(orch, token=None, agents=True)
    with orch, serve(app, port=0) as server:
        handle = orch.submit_task(Task("x", "z" * 1_000, requires=["x"]))
        line = Line(ServiceAddress(server.url, "ann", "s" * 32))
        hello = {
            "protocol": 1,
            "session": "s" * 32,
            "capabilities": ["x"],
            "max_concurrency": 1,
            "lease": 15,
        }
        line.say("hello", hello, 30)
        assert channel.MEDIA in line._offered
        found = line.say("claim", {"wait": 10, "most": 1}, 30)
        assert "z" * 1_000 in json.dumps(found)
        # One that cannot read frames after all is sent JSON from then on.
        line._offered = line._wire.offer
        line._wire.packed = lambda plain, offered: (
            (b"\x82bad", channel.MEDIA) if offered else (plain, "application/json")
        )
        line.say("leave", {}, 30)
        assert line._is_plain
        line.close()
        handle.cancel()
