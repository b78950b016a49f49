"""
Documents of extensions: the state of an extension, kept as events.

Decision: extensions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Final

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import is_name
from taskorch.kit.limits import MAX_DOCUMENT, MAX_DOCUMENTS, MAX_ID_LENGTH
from taskorch.kit.visible import counted, show

#: The most levels of lists and objects in a document.
_DEEPEST: Final = 100
_SEPARATORS: Final = ",", ":"


class KeptDocuments(MutableMapping[str, Any]):
    """
    The documents of an extension, by their keys: see `TaskOrchestrator.kept`.

    A document is a JSON value. Each read makes it anew, so that changes of the copy
    change nothing here. The keys are in the order in which their documents were written
    last.

    Args:
        rt: The runtime, or the part of a simulation that stands for it.
        extension: The name of the extension.
    """

    def __init__(self, rt: Any, extension: str) -> None:
        self._rt = rt
        self.extension: Final = extension

    def __getitem__(self, key: str) -> Any:
        return json.loads(self._texts()[key])

    def __setitem__(self, key: str, document: Any) -> None:
        self.update({key: document})

    def __delitem__(self, key: str) -> None:
        if key not in self._texts():
            raise KeyError(key)
        self.update({key: None})

    def __iter__(self) -> Iterator[str]:
        # The keys are copied, since others may write meanwhile.
        return iter([*self._texts()])

    def __len__(self) -> int:
        return len(self._texts())

    def __contains__(self, key: object) -> bool:
        return key in self._texts()

    def clear(self) -> None:
        """Drop all documents, in one step."""
        self.update(dict.fromkeys(self))

    def update(  # type: ignore[override]  # one form serves for all of the overloads
        self,
        documents: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
        /,
        **more: Any,
    ) -> None:
        """
        Keep *documents* and *more*, all or none; one that is None is dropped.

        In a durable orchestrator it returns once they are in the journal.

        Raises:
            InvalidTaskError: A key is no name, JSON cannot represent a document, or
                there are too many, or too large ones.
            NotRunningError: The orchestrator has stopped.
        """
        rt = self._rt
        texts = [
            (_checked(key), text_of(value, f"{self.extension}[{key!r}]"))
            for key, value in dict(documents, **more).items()
        ]

        def change(now: int) -> None:
            rt.refuse_submission()
            self._keep(texts, now)

        rt.durable()
        rt.step(change, keep=True)

    def note(self, key: str, document: Any, now: int) -> None:
        """Keep one document inside a step of the caller, or drop it if it is None."""
        where = f"{self.extension}[{key!r}]"
        self._keep([(_checked(key), text_of(document, where))], now)

    def _keep(self, texts: list[tuple[str, str]], now: int) -> None:
        kernel = self._rt.kernel
        held = kernel.kept.get(self.extension, {})
        more = sum(bool(text) and key not in held for key, text in texts)
        if more and len(held) + more > MAX_DOCUMENTS:
            msg = f"{self.extension} keeps {len(held):,} documents, and "
            msg += f"{MAX_DOCUMENTS:,} are the most"
            hint = "drop some: del kept[key]; or keep many things in one document"
            raise InvalidTaskError(msg, hint=hint)
        for key, text in texts:
            if held.get(key, "") != text:
                kernel.keep_document(self.extension, key, text, now)

    def _texts(self) -> Mapping[str, str]:
        self._rt.look_up()
        texts: Mapping[str, str] = self._rt.kernel.kept.get(self.extension, {})
        return texts

    def __repr__(self) -> str:
        return f"<kept({self.extension!r}): {counted(len(self), 'document')}>"


def kept_by(rt: Any, extension: str) -> KeptDocuments:
    """
    Return the documents of *extension*.

    Raises:
        InvalidTaskError: *extension* is no valid name.
    """
    if not is_name(extension) or len(extension) > MAX_ID_LENGTH:
        msg = f"extension: a name of at most {MAX_ID_LENGTH} characters is needed, "
        raise InvalidTaskError(msg + f"not {show(extension)}")
    return KeptDocuments(rt, extension)


def text_of(document: Any, where: str) -> str:
    """
    Return the text of *document*; "" for None, which drops it.

    Raises:
        InvalidTaskError: JSON cannot represent it, or it is too large; *where* names
            it.
    """
    if document is None:
        return ""
    _check(document, where, _DEEPEST)
    try:
        text = json.dumps(document, separators=_SEPARATORS)
    except ValueError as error:
        # An integer may have more digits than Python writes.
        msg = f"{where} cannot be written as JSON: {error}"
        raise InvalidTaskError(msg) from error
    if len(text) > MAX_DOCUMENT:
        msg = f"{where} has {len(text):,} characters as JSON, and {MAX_DOCUMENT:,} are "
        hint = "keep it in a file and its path here, or divide it among several keys"
        raise InvalidTaskError(msg + "the most", hint=hint)
    return text


def _check(value: Any, where: str, depth: int) -> None:
    """Refuse a document that JSON cannot represent without a change."""
    kind = type(value)
    if kind in (str, int, bool) or value is None:
        return
    if kind is float:
        if not math.isfinite(value):
            msg = f"{where} is {value}: JSON has no such number"
            raise InvalidTaskError(msg)
    elif kind is dict or kind is list or kind is tuple:
        if not depth:
            msg = f"{where[:MAX_ID_LENGTH]}… is nested more than {_DEEPEST} deep, or "
            raise InvalidTaskError(msg + "contains itself")
        if kind is not dict:
            for place, item in enumerate(value):
                _check(item, f"{where}[{place}]", depth - 1)
            return
        for name, item in value.items():
            if type(name) is not str:
                msg = f"{where} has the key {show(name)}: in JSON a key is a text"
                raise InvalidTaskError(msg)
            _check(item, f"{where}[{name!r}]", depth - 1)
    else:
        msg = f"{where} is of type {kind.__name__}, which JSON cannot say"
        hint = "write it as texts, numbers, lists and dicts"
        raise InvalidTaskError(msg, hint=hint)


def _checked(key: Any) -> str:
    if not is_name(key) or len(key) > MAX_ID_LENGTH:
        msg = f"a key is a text of at most {MAX_ID_LENGTH} characters that can be "
        raise InvalidTaskError(msg + f"printed, not {show(key)}")
    return key
