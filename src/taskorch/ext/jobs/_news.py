"""Hooks and topics of a configuration, for events of jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from taskorch.errors import InvalidTaskError
from taskorch.ext.jobs._config import JobConfig, nearest
from taskorch.kit.fence import log_of

_LOG: Final = log_of(__name__)
_TOPICS: Final = "job_lifecycle.telemetry_topics"
_LEDGER: Final = "resource_pools.allocation_algorithm.audit_logging"
_USUAL: Final = {
    "job_events": "control_plane.job_events",
    "resource_updates": "control_plane.resource_updates",
}


class News:
    """
    Functions bound to hooks, and readers of topics.

    Their errors are logged, and jobs go on.

    Args:
        config: The names of the hooks and the topics.
    """

    def __init__(self, config: JobConfig) -> None:
        self._config = config
        self._hooks: dict[str, Callable[..., Any]] = {}
        self._readers: dict[str, list[Callable[[dict[str, Any]], Any]]] = {}
        ledger = config.get(_LEDGER)
        #: The topics, by subject.
        self.topics: dict[str, str] = {**_USUAL, **config.get(_TOPICS, {})}
        if ledger is not None:
            self.topics["audit_logging"] = ledger

    def bind(self, name: str, function: Callable[..., Any]) -> None:
        """
        Bind a function to a hook.

        Raises:
            InvalidTaskError: The configuration names no such hook.
        """
        if name not in self._config.hooks:
            msg = f"{name} is no hook of this configuration"
            hint = f"integration_points: [FILE#{name}] declares it"
            raise InvalidTaskError(msg + nearest(name, self._config.hooks), hint=hint)
        self._hooks[name] = function

    def bound(self, name: str) -> Callable[..., Any] | None:
        """Return the function that is bound to a hook, if there is one."""
        return self._hooks.get(name)

    def hooks(self) -> dict[str, str]:
        """Return each hook by its configured name, and whether it is `bound`."""
        return {
            written: "bound" if name in self._hooks else "unbound"
            for name, written in self._config.hooks.items()
        }

    def subscribe(self, topic: str, reader: Callable[[dict[str, Any]], Any]) -> None:
        """
        Have *reader* called with each message that is published to *topic*.

        Raises:
            InvalidTaskError: The configuration names no such topic.
        """
        topics = self.topics.values()
        if topic not in topics:
            msg = f"{topic} is no topic{nearest(topic, topics)}"
            raise InvalidTaskError(msg, hint=f"there are {', '.join(topics)}")
        self._readers.setdefault(topic, []).append(reader)

    def publish(self, about: str, message: dict[str, Any]) -> None:
        """Publish to the topic that is *about* something, if there is one."""
        topic = self.topics.get(about)
        if topic is None:
            return
        for reader in self._readers.get(topic, ()):
            try:
                reader(message)
            except Exception:  # noqa: BLE001 - it is not ours, and is told of
                _LOG.exception("a reader of the topic %s has failed", topic)
        self.call("message_bus_infrastructure", {"topic": topic, **message})

    def call(self, hook: str, notice: dict[str, Any]) -> None:
        """Call the function that is bound to *hook*, if there is one."""
        function = self._hooks.get(hook)
        if function is not None:
            try:
                function(notice)
            except Exception:  # noqa: BLE001 - it is not ours, and is told of
                _LOG.exception("the hook %s has failed", hook)
