"""Channel between units and the orchestrator, which learns from samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from threading import Lock
from typing import Any, Final

from taskorch.ext.channel import Channel, train
from taskorch.ext.jobs._config import JobConfig

_KEPT: Final = 2_000
_MODE: Final = "tadpole_execution.spawning_rules.communication_mode"
_COMPRESSION: Final = "tadpole_execution.communication_encoding.compression"


class Hearing:
    """
    Both ends of the channel for messages of units.

    Args:
        config: Whether messages are packed, and whether a dictionary is learnt.
    """

    def __init__(self, config: JobConfig) -> None:
        packed = config.get(_MODE, "binary_symbolic_protocol") != "json"
        self._there = Channel()
        self._here = Channel(self._there.capabilities if packed else None)
        learning = "dictionary_learning"
        #: Whether samples make a better dictionary.
        self.learns: bool = packed and config.get(_COMPRESSION, learning) == learning
        self._lock = Lock()
        self._heard: deque[dict[str, Any]] = deque(maxlen=_KEPT)

    @property
    def entropy(self) -> float:
        """Bits for each byte of the units' messages; 0: there are no messages."""
        return self._here.entropy

    def joined(self) -> Channel:
        """Return the channel for a unit of this process."""
        return _JoinedChannel(self._here, self._there)

    def note(self, message: Mapping[str, Any]) -> None:
        """Keep a message as a sample for the next dictionary."""
        with self._lock:
            self._heard.append({**message})

    def learn(self) -> None:
        """Make a new dictionary, on which both ends agree."""
        with self._lock:
            samples = list(self._heard)
        content = train(samples)
        if content:
            self._there.learn(content)
            self._here.learn(content)
            self._here.agree(self._there.capabilities)


class _JoinedChannel(Channel):
    """Both ends of a channel in one process: it receives what it sends."""

    def __init__(self, here: Channel, remote: Channel) -> None:
        super().__init__()
        self._sends, self._receives = here, remote

    def send(self, message: Any) -> bytes:
        """See `Channel.send`."""
        return self._sends.send(message)

    def receive(self, frame: bytes) -> Any:
        """See `Channel.receive`."""
        return self._receives.receive(frame)
