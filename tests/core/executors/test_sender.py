"""What is sent over a socket that is full comes whole, and in order."""

from __future__ import annotations

import os
import resource
import socket
import threading
from itertools import groupby

from tests.api.tools import PATIENCE

from taskorch.core.executors._programs._output import Sender
from taskorch.kit.loop import Loop

PART = 2**18


def test_parts_of_several_threads_come_whole_and_in_order() -> None:
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    loop, is_over = Loop(), threading.Event()
    loop.open()
    sender = Sender(loop, ours)

    def send(first: int) -> None:
        for number in range(first, first + 4):
            sender.send(bytes([number]) * PART)

    threads = [
        threading.Thread(target=send, args=(first,), daemon=True) for first in (0, 4, 8)
    ]
    threads.append(
        threading.Thread(target=loop.run, args=(is_over.is_set,), daemon=True)
    )
    for thread in threads:
        thread.start()
    with theirs:
        came = theirs.makefile("rb").read(12 * PART)
        parts = [(value, len([*same])) for value, same in groupby(came)]
        assert [size for _, size in parts] == 12 * [PART]
        numbers = [number for number, _ in parts]
        assert sorted(numbers, key=lambda number: number // 4) == [*range(12)]

        loop.call(sender.close)
        assert theirs.recv(1) == b""
    sender.send(b"nobody hears this")
    loop.call(is_over.set)
    for thread in threads:
        thread.join(PATIENCE)
    loop.close()


def test_without_a_descriptor_the_rest_is_sent_once_there_is_one() -> None:
    """It needs one more to wait for room: without it, nobody would hear the rest."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    loop, is_over, was_tried = Loop(), threading.Event(), threading.Event()
    loop.open()
    sender = Sender(loop, ours)
    thread = threading.Thread(target=loop.run, args=(is_over.is_set,), daemon=True)
    thread.start()
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(ours.fileno())
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        sender.send(bytes(8 * PART))
        loop.call(was_tried.set)
        assert was_tried.wait(PATIENCE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    with theirs:
        assert theirs.makefile("rb").read(8 * PART) == bytes(8 * PART)
    loop.call(sender.close)
    loop.call(is_over.set)
    thread.join(PATIENCE)
    loop.close()
