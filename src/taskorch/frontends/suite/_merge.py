"""Several documents as one: what they all say must agree."""

from __future__ import annotations

from collections.abc import Iterable

from taskorch._documents.forms import FaultList
from taskorch._documents.located import Located


def merged(documents: Iterable[Located], faults: FaultList) -> Located | None:
    """
    All documents merged into one, in which mappings are dicts of name to value.

    Mappings of the same name are put together, and so are lists of entries that have
    an `id`. All else that is said twice must be the same.

    Returns:
        The document, or None if there is none.
    """
    whole: Located | None = None
    for document in documents:
        one = _single(document, faults)
        whole = one if whole is None else _both(whole, one, "the document", faults)
    return whole


def _single(node: Located, faults: FaultList) -> Located:
    """*node* with dicts for mappings; what one names twice is put together."""
    if isinstance(node.value, list):
        return Located([_single(item, faults) for item in node.value], node.place)
    if not isinstance(node.value, tuple):
        return node
    entries: dict[str, tuple[Located, Located]] = {}
    for key, value in node.value:
        one = _single(value, faults)
        if key.value in entries:
            first, before = entries[key.value]
            entries[key.value] = first, _both(before, one, key.value, faults)
        else:
            entries[key.value] = key, one
    return Located(entries, node.place)


def _both(first: Located, second: Located, name: str, faults: FaultList) -> Located:
    """What *first* and *second*, both called *name*, say together."""
    if isinstance(first.value, dict) and isinstance(second.value, dict):
        joined = dict(first.value)
        for key, (place, value) in second.value.items():
            if key in joined:
                earlier, before = joined[key]
                joined[key] = earlier, _both(before, value, key, faults)
            else:
                joined[key] = place, value
        return Located(joined, first.place)
    if _has_ids(first) and _has_ids(second):
        entries = {_id_of(entry): entry for entry in first.value}
        for entry in second.value:
            named = _id_of(entry)
            earlier = entries.get(named)
            entries[named] = (
                entry if earlier is None else _both(earlier, entry, named, faults)
            )
        return Located(list(entries.values()), first.place)
    if _plain(first) != _plain(second):
        faults.disagree(name, first, second)
    return first


def _has_ids(node: Located) -> bool:
    return isinstance(node.value, list) and all(
        isinstance(entry.value, dict)
        and "id" in entry.value
        and isinstance(entry.value["id"][1].value, str)
        for entry in node.value
    )


def _id_of(entry: Located) -> str:
    return str(entry.value["id"][1].value)


def _plain(node: Located) -> object:
    """What *node* says, as it is compared: 1 is 1.0, and no truth."""
    value = node.value
    if isinstance(value, dict):
        return {key: _plain(item) for key, (_, item) in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return (isinstance(value, bool), value)
