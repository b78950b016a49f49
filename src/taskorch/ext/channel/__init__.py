"""
Messages in few bytes: symbols for the names that occur, and a learnt dictionary.

    theirs = Channel()
    ours = Channel(offered=theirs.capabilities)   # the handshake
    assert theirs.receive(ours.send({"done": 3})) == {"done": 3}

A frame says by its first byte how the rest is coded; plain JSON is a frame as well, and
what is sent whenever in doubt: nobody guesses. The first byte of JSON is none of ours.

Decision: connections-to-peers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from math import log2
from threading import Lock
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.events import CATALOGUE

try:  # pragma: no cover - which of the two is there depends on the interpreter
    from compression import zstd as _zstd  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    try:
        from backports import zstd as _zstd  # type: ignore[import-not-found,no-redef,unused-ignore]
    except ImportError:
        _zstd = None

#: The name of the coding, as a content type.
MEDIA: Final = "application/x-taskorch-frames"
#: A message is never larger, whatever a frame claims.
MOST_BYTES: Final = 16 * 1024 * 1024
_PACKED: Final = 0x81
_LEARNT: Final = 0x82
_STREAM: Final = 0x83
#: Bytes of a dictionary: a larger one gains nothing.
_DICTIONARY: Final = 4_096
_ID_BYTES: Final = 4
#: The most dictionaries that are kept, so that frames under way can be read.
_KEPT: Final = 4
#: Fields that stand around what users have said, beside those of events.
_AROUND: Final = ("event", "job_id", "kind", "objective", "state", "unit", "schema")
#: Fields of events with words of users, or of their programs.
_THEIRS: Final = frozenset(
    {"value", "message", "findings", "stats", "key", "owner", "caller"}
)
_LEVEL: Final = 3


class FrameError(InvalidTaskError):
    """A frame cannot be read: it is damaged, too large, or of an unknown dictionary."""


@attrs.frozen
class Capabilities:
    """
    The codings and dictionaries that one side of a channel can read.

    Attributes:
        codings: Names of codings, the best first; `json` is always one of them.
        dictionaries: Ids of the dictionaries that it has.
    """

    codings: tuple[str, ...] = ("json",)
    dictionaries: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the capabilities as JSON has them."""
        return {
            "codings": list(self.codings),
            "dictionaries": list(self.dictionaries),
        }

    @classmethod
    def of(cls, found: object) -> Capabilities:
        """Read the capabilities that another side sent; leave out unknown values."""
        if not isinstance(found, Mapping):
            return cls()

        def texts(name: str) -> tuple[str, ...]:
            entries = found.get(name)
            if not isinstance(entries, list):
                return ()
            return tuple(one for one in entries if isinstance(one, str))

        return cls((*texts("codings"), "json"), texts("dictionaries"))


def _needed() -> Any:
    """Return the module for zstd, which must be installed."""
    return _zstd


def can_compress() -> bool:
    """Whether zstd is there: from Python 3.14, or with `taskorch[channel]`."""
    return _zstd is not None


def train(messages: Iterable[Mapping[str, Any]]) -> bytes:
    """
    Make a dictionary of the envelopes of *messages*; no payload is in it.

    Returns:
        The dictionary, or b"" if there is too little to learn from, or no zstd.
    """
    if _zstd is None:
        return b""
    samples = [_dumps(_envelope(message)) for message in messages]
    if len(samples) < 8 or sum(map(len, samples)) < 2 * _DICTIONARY:  # noqa: PLR2004
        return b""
    try:
        content: bytes = _zstd.train_dict(samples, _DICTIONARY).dict_content
    except _zstd.ZstdError:
        return b""
    return content


@cache
def envelope_fields() -> frozenset[str]:
    """Fields of an envelope: only these are what a dictionary is made of."""
    names = {name for cls in CATALOGUE for name in cls.__match_args__}
    return frozenset(names - _THEIRS).union(_AROUND)


def _envelope(message: Mapping[str, Any]) -> dict[str, Any]:
    fields = envelope_fields()
    return {name: value for name, value in message.items() if name in fields}


def _dumps(value: Any) -> bytes:
    # JSON has no NaN: others read nothing in its place, or do not read the message.
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def dictionary_id(content: bytes) -> str:
    """Return the id of a dictionary, a hash of its content, so none can be forged."""
    return sha256(content).hexdigest()[: 2 * _ID_BYTES]


class Channel:
    """
    One side of a channel.

    Args:
        offered: The capabilities of the other side; None: plain JSON only is sent.
        streams: Whether frames arrive in order, all of them, as on a connection: then
            each is compressed with what came before. Both sides say the same.
    """

    def __init__(
        self, offered: Capabilities | None = None, *, streams: bool = False
    ) -> None:
        self._lock = Lock()
        self._streams = streams and _zstd is not None
        self._dictionaries: dict[str, Any] = {}
        self._makers: dict[str, Any] = {}
        self._current = ""
        self._bytes: Counter[int] = Counter()
        self.sent_messages: int = 0
        self.sent_bytes: int = 0
        #: Messages that were sent as plain JSON.
        self.plain_messages: int = 0
        self._writer: Any = None
        self._reader: Any = None
        self.offered: Capabilities = offered or Capabilities()

    @property
    def capabilities(self) -> Capabilities:
        """The codings and dictionaries that this side can read."""
        with self._lock:
            ids = tuple(self._dictionaries)
        codings = ("zstd", "json") if _zstd is not None else ("json",)
        return Capabilities(codings, ids)

    def agree(self, offered: Capabilities) -> None:
        """Hear what the other side can read: from now on that is what is sent."""
        with self._lock:
            self.offered = offered

    def learn(self, content: bytes, *, is_raw: bool = False) -> str:
        """
        Take a dictionary; frames use it once the other side has it, too.

        Older ones stay for a while, for what is under way.

        Args:
            content: The dictionary, as `train` makes it.
            is_raw: Whether *content* is plain text, without the header of zstd.

        Returns:
            Its id, or "" if there is nothing to take.
        """
        if not content or _zstd is None:
            return ""
        name = dictionary_id(content)
        dictionary = _zstd.ZstdDict(content, is_raw=is_raw)
        with self._lock:
            self._dictionaries[name] = dictionary
            self._current = name
            while len(self._dictionaries) > _KEPT:
                del self._dictionaries[next(iter(self._dictionaries))]
        return name

    def send(self, message: Any) -> bytes:
        """
        The frame of *message*, which JSON can say.

        Raises:
            InvalidTaskError: JSON cannot say it, or it is too large.
        """
        try:
            plain = _dumps(message)
        except (TypeError, ValueError, RecursionError) as error:
            msg = f"a message is what JSON can say: {error}"
            raise InvalidTaskError(msg) from error
        if len(plain) > MOST_BYTES:
            msg = f"a message has {MOST_BYTES:,} bytes at the most, not {len(plain):,}"
            raise InvalidTaskError(msg)
        return self.pack(plain)

    def pack(self, plain: bytes) -> bytes:
        """Return the frame of a message that is JSON already."""
        with self._lock:
            frame = self._packed(plain)
            self.sent_messages += 1
            self.sent_bytes += len(frame)
            self.plain_messages += frame is plain
            self._bytes.update(frame)
        return frame

    def _packed(self, plain: bytes) -> bytes:
        if _zstd is None or "zstd" not in self.offered.codings:
            return plain
        if self._streams:
            if self._writer is None:
                self._writer = _zstd.ZstdCompressor(level=_LEVEL)
            flush = _zstd.ZstdCompressor.FLUSH_BLOCK
            packed: bytes = self._writer.compress(plain, flush)
            return bytes([_STREAM]) + packed
        name = self._current
        if name and name in self.offered.dictionaries:
            maker = self._makers.get(name)
            if maker is None:
                # The digested dictionary is made once, for all messages.
                dictionary = self._dictionaries[name].as_digested_dict
                maker = _zstd.ZstdCompressor(options=_OPTIONS, zstd_dict=dictionary)
                self._makers = {name: maker}
            body = maker.compress(plain, maker.FLUSH_FRAME)
            frame = bytes([_LEARNT]) + bytes.fromhex(name) + body
        else:
            frame = bytes([_PACKED]) + _zstd.compress(plain, options=_OPTIONS)
        return frame if len(frame) < len(plain) else plain

    def receive(self, frame: bytes) -> Any:
        """
        The message of *frame*.

        Raises:
            FrameError: It cannot be read; what it would unpack to is bounded.
        """
        plain = self.unpack(frame)
        try:
            return json.loads(plain.decode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError) as error:
            msg = f"the frame is no message: {error}"
            raise FrameError(msg) from error

    def unpack(self, frame: bytes, most: int | None = None) -> bytes:
        """
        The JSON of *frame*, of at most so many bytes.

        Raises:
            FrameError: It cannot be read.
        """
        most = MOST_BYTES if most is None else most
        if not frame:
            msg = "the frame is empty"
            raise FrameError(msg)
        kind = frame[0]
        if kind in (_PACKED, _LEARNT, _STREAM):
            if _zstd is None:
                msg = "the frame is compressed, and zstd is not there"
                raise FrameError(msg, hint="pip install 'taskorch[channel]'")
            try:
                plain = self._unpacked(kind, frame, most)
            except (_zstd.ZstdError, EOFError, ValueError) as error:
                msg = f"the frame is damaged: {error}"
                raise FrameError(msg) from error
        else:
            plain = frame
        if len(plain) > most:
            msg = f"the message is larger than {most:,} bytes"
            raise FrameError(msg)
        return plain

    def _unpacked(self, kind: int, frame: bytes, most: int) -> bytes:
        if kind == _STREAM:
            with self._lock:
                if self._reader is None:
                    self._reader = _needed().ZstdDecompressor()
                plain: bytes = self._reader.decompress(frame[1:], most + 1)
            return plain
        dictionary, start = None, 1
        if kind == _LEARNT:
            start += _ID_BYTES
            name = frame[1:start].hex()
            with self._lock:
                dictionary = self._dictionaries.get(name)
            if dictionary is None:
                msg = f"the dictionary {name} is not known here"
                raise FrameError(
                    msg, hint="agree on what both sides have, or send JSON"
                )
        one = _needed().ZstdDecompressor(zstd_dict=dictionary)
        # Bounded: no more is ever unpacked than a message may have.
        unpacked: bytes = one.decompress(frame[start:], most + 1)
        if len(unpacked) <= most and not one.eof:
            msg = "it ends before its end"
            raise ValueError(msg)
        return unpacked

    @property
    def entropy(self) -> float:
        """Entropy of the sent bytes, in bits a byte; 8 leaves nothing to compress."""
        with self._lock:
            counts = list(self._bytes.values())
        total = sum(counts)
        return -sum(one / total * log2(one / total) for one in counts) if total else 0.0


def _options() -> dict[Any, int]:
    """Without what a message of ours need not say: sizes and the id of a dictionary."""
    if _zstd is None:  # pragma: no cover - see above
        return {}
    names = _zstd.CompressionParameter
    return {
        names.compression_level: _LEVEL,
        names.content_size_flag: 0,
        names.checksum_flag: 0,
        names.dict_id_flag: 0,
    }


_OPTIONS: Final = _options()


#: The words of the messages of workers; the most frequent ones stand last. Both sides
#: have these words, or another version, which the handshake names.
_WIRE_WORDS: Final = (
    *("title", "version", "protocol", "error", "traceback", "frames", "lines", "size"),
    *("agent_id", "capabilities", "max_concurrency", "capacity", "request", "lease"),
    *("artifact", "offset", "final", "content", "wait", "more", "stops", "running"),
    *("progress", "message", "cause", "stdout", "stderr", "exit_code", "duration"),
    *("value", "kind", "ended", "results", "orders", "completed", "failed", "attempts"),
    *("metadata", "timeout", "payload", "type", "outcome", "result", "fence"),
    *("attempt", "task_id"),
)


class Wire:
    """
    Messages over HTTP, each by itself: as frames, if the other side offers that.

    A request says in `Accept` what its sender can read; an answer says the same in
    `Accept-Post`. Whoever has not said it is sent JSON.
    """

    def __init__(self) -> None:
        self._reader = Channel()
        content = "".join(f'{{"{word}":[{{"' for word in _WIRE_WORDS).encode()
        self._id = self._reader.learn(content, is_raw=True)
        self._content = content

    @property
    def offer(self) -> str:
        """The value of a header with the content types that this side can read."""
        if not self._id:
            return "application/json"
        return f"{MEDIA};dictionary={self._id}, application/json"

    def packed(self, plain: bytes, offered: str | None) -> tuple[bytes, str]:
        """*plain*, JSON, as who has *offered* can read it; and its content type."""
        if offered and self._id and self._is_offered(offered):
            reader = Capabilities(("zstd", "json"), (self._id,))
            channel = Channel(reader)
            channel.learn(self._content, is_raw=True)
            frame = channel.pack(plain)
            if frame is not plain:
                return frame, MEDIA
        return plain, "application/json"

    def _is_offered(self, offered: str) -> bool:
        return f"{MEDIA};dictionary={self._id}" in offered.replace(" ", "")

    def unpacked(self, body: bytes, content_type: str | None, most: int) -> bytes:
        """
        The JSON of a *body*.

        Raises:
            FrameError: It is a frame that cannot be read.
        """
        if not is_framed(content_type):
            return body
        return self._reader.unpack(body, most)


def is_framed(content_type: str | None) -> bool:
    """Whether a body of this content type is a frame."""
    return (content_type or "").partition(";")[0].strip().lower() == MEDIA
