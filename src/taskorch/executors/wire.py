"""
What goes between us and a worker, or a host of workers: frames, and nothing else.

A frame is a mark, a kind, the number of the call that it is of, a length, that many
bytes, and the number again. What a task writes into the descriptor by mistake is told
from it by the mark; and by the number at the end, if it came into the midst of a frame
that another thread was writing.
Small calls go to a worker another way, as frames over a pair of sockets for messages,
of which we keep both ends: what the worker has not taken can be taken back, and it is
one of the two who has it. In which order it takes them is not known: what comes of a
call is told by its number, and by nothing else.

Decisions: 0110, 0198.
"""

from __future__ import annotations

import struct
from typing import Final

#: How frames begin; the number rises with what they mean.
_MARK: Final = b"tko3"
_HEAD: Final = struct.Struct("!4sB8sQ")
#: Kinds of frames to a worker: what it begins with, a large call, that a call is to
#: end, and what came of what it told.
BEGIN, CALL, STOP, ANSWER = 1, 2, 3, 4
#: And to a host of workers elsewhere, which gets all of these, for its workers: that a
#: call is to be given back if it was not begun, that we are alive, that it is to end.
GIVE_BACK, ALIVE, LEAVE = 5, 6, 7
#: What it has returned, and kept, is to be sent after all; is not needed any more.
TAKE, FORGET = 8, 9
#: Kinds of frames from a worker: it can be given something to do; what came of that,
#: what it returned, or that it could not be read; what a task says through its context;
#: what it logs.
READY, END, RETURNED, UNREADABLE, TOLD, LOGGED = 11, 12, 13, 14, 15, 16
#: Before what a call returned: its seconds of processor, and the bytes of its type's
#: name, which follow.
RETURNED_BEFORE: Final = struct.Struct("<dB")
#: From a host: that a call is given back, and could not be begun.
GIVEN_BACK, UNSTARTED = 17, 18
#: Between the orchestrator and who comes in, in both directions: bytes that nobody has
#: had before, and what only who knows the secret of a host can make of them.
CHALLENGE, PROOF = 21, 22
_KINDS: Final = frozenset(
    (*range(BEGIN, FORGET + 1), *range(READY, UNSTARTED + 1), CHALLENGE, PROOF)
)
#: What is said of a call once, and last.
ENDS: Final = frozenset((END, RETURNED, UNREADABLE, GIVEN_BACK, UNSTARTED))
#: Bytes of the number that each call has, in all that is sent of it.
NUMBER: Final = 8
#: In its place, in what is of no call.
NOBODY: Final = bytes(NUMBER)
#: Bytes of the process id of a worker of a host, in what is told of it.
PID: Final = 8
#: Bytes of a call that is sent as a message.
SMALL: Final = 2**16
#: Bytes that a call, or what came of it, may have, pickled.
MOST_BYTES: Final = 256 * 2**20
#: What stands around them.
_AROUND: Final = 2**20
#: Bytes of a frame before its body, and after it.
HEAD: Final = _HEAD.size
TAIL: Final = NUMBER
_NUMBER: Final = slice(5, 5 + NUMBER)


def frame(kind: int, number: bytes, *body: bytes) -> bytes:
    """The parts of *body* as a frame of a *kind*, of the call with a *number*."""
    head = _HEAD.pack(_MARK, kind, number, sum(map(len, body)))
    return b"".join((head, *body, number))


def read_head(
    data: bytes | bytearray, at: int = 0, most: int = MOST_BYTES + _AROUND
) -> tuple[int, bytes, int] | None:
    """
    What the head of a frame says: its kind, the number, and the bytes of its body.

    None: it is none, or of a body with more than *most* bytes.
    """
    mark, kind, number, length = _HEAD.unpack_from(data, at)
    if mark != _MARK or kind not in _KINDS or length > most:
        return None
    return kind, number, length


def call_in(whole: bytes) -> tuple[bytes, bytes]:
    """Number and body of a *whole* frame, of which we know that it is one."""
    return whole[_NUMBER], whole[HEAD:-TAIL]


class Frames:
    """Puts frames together again from what has come of them."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        #: What has come is no frame: nothing is found any more.
        self.is_garbled: bool = False

    def feed(self, data: bytes) -> list[tuple[int, bytes, bytes]]:
        """
        Take in *data*; the frames that are whole now, as kinds, numbers and bodies.

        Those before what is no frame are among them.
        """
        buffer = self._buffer
        buffer += data
        frames: list[tuple[int, bytes, bytes]] = []
        at = 0
        while len(buffer) - at >= HEAD:
            head = read_head(buffer, at)
            if head is None:
                self.is_garbled = True
                break
            kind, number, length = head
            begin, end = at + HEAD, at + HEAD + length
            if len(buffer) < end + TAIL:
                break
            if buffer[end : end + TAIL] != number:
                # Something came into it: it has not the body that was sent.
                self.is_garbled = True
                break
            with memoryview(buffer) as view:
                frames.append((kind, number, bytes(view[begin:end])))
            at = end + TAIL
        if at:
            del buffer[:at]
        if not _MARK.startswith(buffer[: len(_MARK)]):
            # Seen at once, though it is shorter than a head.
            self.is_garbled = True
        return frames
