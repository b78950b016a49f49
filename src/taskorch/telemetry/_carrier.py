"""
A span's context as text: the `traceparent` of W3C Trace Context.

What is read here comes from environments and journals, which anybody may have written:
what is not well formed is no context.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_FORMAT: Final = TraceContextTextMapPropagator()
#: Variables by which a process says whose trace its child belongs to.
_PARENT: Final = "TRACEPARENT"
_STATE: Final = "TRACESTATE"
#: Characters that a well-formed one may have, and more: versions to come have more.
_LONGEST: Final = 512
#: Contexts that are remembered once they were read: attempts of one batch share theirs.
_MANY: Final = 1_024
_NONE: Final = context.Context()


def text_of(span: trace.SpanContext) -> str | None:
    """The context of *span* as text; None if it is none."""
    if not span.is_valid:
        return None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def parsed(text: object, state: str = "") -> trace.SpanContext | None:
    """The context that *text* says, with its vendors' *state*; None if it is none."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        return None
    # What vendors have to say may be left out; the trace is the same without it.
    return _parsed(text, state if len(state) <= _LONGEST else "")


@lru_cache(maxsize=_MANY)
def _parsed(text: str, state: str) -> trace.SpanContext | None:
    carrier = {"traceparent": text, "tracestate": state}
    span = trace.get_current_span(_FORMAT.extract(carrier, _NONE)).get_span_context()
    return span if span.is_valid else None


def inherited() -> trace.SpanContext | None:
    """
    The trace context in the environment of this process, if there is one.

    Raises:
        ValueError: There is something, and it is no context.
    """
    text = os.environ.get(_PARENT, "")
    if not text:
        return None
    parent = parsed(text, os.environ.get(_STATE, ""))
    if parent is None:
        msg = f"{_PARENT} is no traceparent of W3C Trace Context"
        raise ValueError(msg)
    return parent


@contextmanager
def inside(text: str) -> Iterator[None]:
    """Make the context in *text* the current one within the block, if it is valid."""
    parent = parsed(text)
    if parent is None:
        yield
        return
    span = trace.NonRecordingSpan(parent)
    token = context.attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        context.detach(token)


def environment_of(span: trace.Span) -> dict[str, str]:
    """The variables that hand the context of *span* down to a program."""
    carrier: dict[str, str] = {}
    _FORMAT.inject(carrier, trace.set_span_in_context(span, _NONE))
    return {name.upper(): text for name, text in carrier.items()}
