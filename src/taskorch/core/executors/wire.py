"""
Frames, the only messages between us and a worker, or a host of workers.

A frame is a mark, a kind, the number of the call that it is of, a length, that many
bytes, and the number again. The mark shows bytes that a task has written into the
descriptor by mistake; and the number at the end shows them if they came into the middle
of a frame that another thread was writing. Small calls go to a worker another way, as
frames over a pair of sockets for messages, of which we keep both ends: a call that the
worker has not taken can be taken back, and only one of the two has it. In which order
it takes them is not known, so the outcome of a call is found by its number alone.

Decision: worker-processes.
"""

from __future__ import annotations

import struct
from typing import Final

#: The beginning of frames; its number rises when their meaning changes.
_MARK: Final = b"tko3"
_HEAD: Final = struct.Struct("!4sB8sQ")
#: Kinds of frames to a worker: its settings, a large call, that a call is to end, and
#: the answer to a message.
BEGIN, CALL, STOP, ANSWER = 1, 2, 3, 4
#: Further kinds to a host, which gets all of these for its workers: that a call is to
#: be given back if it was not begun, that we are alive, that it is to end.
GIVE_BACK, ALIVE, LEAVE = 5, 6, 7
#: A result that it has kept is to be sent after all; it is not needed any more.
TAKE, FORGET = 8, 9
#: Kinds of frames from a worker: it can be given calls; the end of one, its result, or
#: that it could not be read; a message of a task through its context; a log record.
READY, END, RETURNED, UNREADABLE, TOLD, LOGGED = 11, 12, 13, 14, 15, 16
#: Fields before a result: its seconds of processor, and the bytes of its type's name,
#: which follow.
RETURNED_BEFORE: Final = struct.Struct("<dB")
#: From a host: that a call is given back, and could not be begun.
GIVEN_BACK, UNSTARTED = 17, 18
#: Between the orchestrator and a new connection, in both directions: fresh random
#: bytes, and a proof that only the secret of a host can make from them.
CHALLENGE, PROOF = 21, 22
_KINDS: Final = frozenset(
    (*range(BEGIN, FORGET + 1), *range(READY, UNSTARTED + 1), CHALLENGE, PROOF)
)
#: Kinds that end a call.
ENDS: Final = frozenset((END, RETURNED, UNREADABLE, GIVEN_BACK, UNSTARTED))
#: Bytes of the number that each call has in all frames about it.
NUMBER: Final = 8
#: The number in frames that belong to no call.
NOBODY: Final = bytes(NUMBER)
#: Bytes of the process id of a host's worker, in frames about it.
PID: Final = 8
#: The most bytes of a call that is sent as a message.
SMALL: Final = 2**16
#: The most bytes, pickled, of a call or its outcome.
MOST_BYTES: Final = 256 * 2**20
#: The most bytes around them.
_AROUND: Final = 2**20
#: Bytes of a frame before its body, and after it.
HEAD: Final = _HEAD.size
TAIL: Final = NUMBER
_NUMBER: Final = slice(5, 5 + NUMBER)


def frame(kind: int, number: bytes, *body: bytes) -> bytes:
    """Return *body* as a frame of a *kind*, of the call with a *number*."""
    head = _HEAD.pack(_MARK, kind, number, sum(map(len, body)))
    return b"".join((head, *body, number))


def read_head(
    data: bytes | bytearray, at: int = 0, most: int = MOST_BYTES + _AROUND
) -> tuple[int, bytes, int] | None:
    """
    Return the head of a frame: its kind, the number, and the bytes of its body.

    Return None if it is none, or its body has more than *most* bytes.
    """
    mark, kind, number, length = _HEAD.unpack_from(data, at)
    if mark != _MARK or kind not in _KINDS or length > most:
        return None
    return kind, number, length


def call_in(whole: bytes) -> tuple[bytes, bytes]:
    """Return number and body of a *whole* frame, which is known to be one."""
    return whole[_NUMBER], whole[HEAD:-TAIL]


class Frames:
    """Joins bytes to frames again, as they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        #: Whether bytes have come that are no frame; no more frames are found then.
        self.is_garbled: bool = False

    def feed(self, data: bytes) -> list[tuple[int, bytes, bytes]]:
        """
        Take *data*; return the frames that are complete now: kinds, numbers and bodies.

        Frames before bytes that are no frame are among them.
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
                # Other bytes came into it: its body is not the one that was sent.
                self.is_garbled = True
                break
            with memoryview(buffer) as view:
                frames.append((kind, number, bytes(view[begin:end])))
            at = end + TAIL
        if at:
            del buffer[:at]
        if not _MARK.startswith(buffer[: len(_MARK)]):
            # This shows at once, though it is shorter than a head.
            self.is_garbled = True
        return frames
