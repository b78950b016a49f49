"""
Deletion of the events about some tasks, for good, within one transaction.

A group of which some events go is rewritten as a *rest*: it keeps the checksum of the
original group, which the next group continues, and has one of its own over the events
that are left. Neighbouring rests are joined. So the events that stay are checked as
before, and no later group is touched. A snapshot stays if it names none of these tasks.

Of the rows that go, a rest keeps hashes in the tree over all rows: see `kit.tree`.

Decisions: proofs-of-a-journal, retention.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from taskorch.core.journal._codec import Row
from taskorch.core.journal.tables import KEEP_GROUP, ChainStart, GroupRow, Reader, reach
from taskorch.kit.tree import Subtree, gone_of, joined, spread

#: The most events of a rest, if the groups that it is made of allow it.
_MANY: Final = 1_000

_DROP: Final = "DELETE FROM {groups} WHERE {mine}last > :after AND last <= :last"
_DROP_EVENTS: Final = """
    DELETE FROM {facts} WHERE {mine}seq IN (SELECT value FROM {numbers})
"""
_DROP_SNAPSHOT: Final = "DELETE FROM {snapshots} WHERE {mine}seq = :seq"
_CHANGE_SNAPSHOT: Final = "UPDATE {snapshots} SET crc = :crc WHERE {mine}seq = :seq"
_COUNT: Final = "SELECT count(*) FROM {facts} WHERE {mine}seq > :after AND seq <= :last"
_IS_SAME: Final = """
    SELECT count(*) FROM {groups} WHERE {mine}last = :last AND crc = :crc
    AND form = :form
"""
#: The lists of a snapshot that name tasks.
_NAMING: Final = ("tasks", "gone")


def forget(reader: Reader, ids: Collection[str], events: Collection[int] = ()) -> int:
    """
    Delete the events about the tasks of *ids*, and return how many they were.

    Single *events* are deleted, too, by their numbers; these are about no task.

    It needs a transaction of the caller's.

    Raises:
        JournalError: A group that has some of them is damaged; nothing was changed.
    """
    session = reader.session
    names = reader.names_of(ids)
    numbers = sorted({*(reader.numbers(names) if names else ()), *events})
    if not numbers:
        return 0
    snapshots = _staying(reader, names)
    rests = list(_rests(reader, numbers, names, frozenset(events)))
    reach("forget")
    if names:
        session.leave_out([*names])
    if events:
        session.change(_DROP_EVENTS, numbers=sorted(events))
    reach("rests")
    for after, rest in rests:
        session.change(_DROP, after=after, last=rest.last)
        session.change(KEEP_GROUP, **rest.columns())
        session.put_into_incarnation(after, rest.last, rest.epoch)
    for seq, (state, head) in snapshots.items():
        now = reader.group_of(seq)[0].crc
        if not state:
            session.change(_DROP_SNAPSHOT, seq=seq)
        elif now != head:
            crc = reader.snapshot_sum(seq, state)
            session.change(_CHANGE_SNAPSHOT, seq=seq, crc=crc)
    return len(numbers)


def _staying(reader: Reader, names: set[str]) -> dict[int, tuple[str, int]]:
    """
    Return the snapshots by their numbers: the text, and the checksum of its group.

    The text is "" if the snapshot is damaged, or names a task that goes.
    """
    snapshots: dict[int, tuple[str, int]] = {}
    for seq, text in reader.snapshots():
        state = json.loads(text) if text else {}
        named = (reader.names_of(state.get(each, ())) for each in _NAMING)
        stays = all(names.isdisjoint(each) for each in named)
        snapshots[seq] = text if stays else "", reader.group_of(seq)[0].crc
    return snapshots


def parts(reader: Reader) -> Iterator[tuple[GroupRow, list[GroupRow]]]:
    """
    Yield very large groups, each with the rests that it can be split into.

    A later deletion then rewrites only a rest. The groups are checked; the latest is
    not among them, since its commit may be in doubt.
    """
    latest, before, start = reader.latest(), reader.before(0), reader.chain_start()
    while groups := reader.groups_after(before.last):
        for group in groups:
            after, before_it, before = before.last, before, group
            if group.last >= latest.last or group.last - after <= 2 * _MANY:
                continue
            ((count,),) = reader.session.ask(_COUNT, after=after, last=group.last)
            if count > 2 * _MANY:
                rows = _whole(reader, group, before_it, start)
                yield group, _parted(group, after, rows)


def _whole(
    reader: Reader, group: GroupRow, before: GroupRow, start: ChainStart | None
) -> list[Row]:
    """
    Return the rows of *group*, which comes after *before*, once they are checked.

    Damaged rows must not get a new checksum.

    Raises:
        JournalError: It is damaged.
    """
    rows = reader.whole(group, before)
    reader.check_link(group, before, rows, start)
    return rows


def _parted(group: GroupRow, after: int, rows: list[Row]) -> list[GroupRow]:
    """Split *group*, which is above *after* and has these *rows*, into rests."""
    rests: list[GroupRow] = []
    leaves = _leaves(group, rows)
    for place in range(0, len(rows), _MANY):
        some = rows[place : place + _MANY]
        # The group after it continues the last part.
        is_last = place + _MANY >= len(rows)
        part = group
        gone: list[Subtree] = []
        if not is_last:
            part = group._replace(last=some[-1][0])
        for subtree, row in leaves:
            if row is None:
                gone.append(subtree)
            elif row is some[-1] and not is_last:
                part = part._replace(size=subtree.end)
                break
        rests.append(_rest([_Piece(part, after, some, gone)])[1])
        after = part.last
    return rests


def _leaves(group: GroupRow, rows: list[Row]) -> Iterator[tuple[Subtree, Row | None]]:
    """Yield the leaves of *group*, which has these *rows*; none if in no chain."""
    if not group.hash:
        return iter(())
    return spread(rows, group.size, gone_of(group.gone))


def replace(reader: Reader, group: GroupRow, rests: list[GroupRow]) -> None:
    """Put *rests* in the place of *group*, unless it has changed since."""
    session = reader.session
    ((is_same,),) = session.ask(
        _IS_SAME, last=group.last, crc=group.kept, form=group.form
    )
    if is_same:
        reach("parts")
        session.change(_DROP, after=group.last - 1, last=group.last)
        for rest in rests:
            session.change(KEEP_GROUP, **rest.columns())


class _Piece(NamedTuple):
    """A group of which some events go, or a rest before it."""

    group: GroupRow
    #: The number of the last event before it.
    start: int
    #: The rows that stay.
    rows: list[Row]
    #: The hashes of rows that go, or went before.
    gone: list[Subtree]


def _rests(
    reader: Reader, numbers: list[int], names: set[str], events: frozenset[int]
) -> Iterator[tuple[int, GroupRow]]:
    """Yield the rests of groups with events of *numbers*, each with its start."""
    pieces: list[_Piece] = []
    count = 0
    for piece in _pieces(reader, numbers, names, events):
        if pieces and (
            piece.start != pieces[-1].group.last
            or count >= _MANY
            # A group of an earlier version is in no chain.
            or bool(piece.group.hash) != bool(pieces[-1].group.hash)
        ):
            yield _rest(pieces)
            pieces, count = [], 0
        pieces.append(piece)
        count += len(piece.rows)
    yield _rest(pieces)


def _pieces(
    reader: Reader, numbers: list[int], names: set[str], events: frozenset[int]
) -> Iterator[_Piece]:
    """
    Yield these groups, once each is checked.

    Raises:
        JournalError: One is damaged.
    """
    reached, start = 0, reader.chain_start()
    for group, before, rows in reader.holding(numbers):
        # The rest before is joined, so that rests of many deletions do not pile up.
        if before.is_rest and before.last != reached:
            earlier = reader.before(before.last)
            rest = _whole(reader, before, earlier, start)
            yield _piece(before, earlier, rest, rest)
        reader.check_link(group, before, rows, start)
        stay = [row for row in rows if row[3] not in names and row[0] not in events]
        yield _piece(group, before, rows, stay)
        reached = group.last


def _piece(
    group: GroupRow, before: GroupRow, rows: list[Row], stay: list[Row]
) -> _Piece:
    """Return the piece of *group*, which comes after *before*: the rows of *stay*."""
    kept = {row[0] for row in stay}
    gone = [
        subtree
        for subtree, row in _leaves(group, rows)
        if row is None or row[0] not in kept
    ]
    return _Piece(group, before.last, stay, gone)


def _rest(pieces: list[_Piece]) -> tuple[int, GroupRow]:
    """Join *pieces*, which follow each other; return the start and the rest."""
    latest, after = pieces[-1].group, pieces[0].start
    rows = [row for piece in pieces for row in piece.rows]
    rest = latest.rest(after + 1, rows)
    if rest.hash:
        gone = joined(subtree for piece in pieces for subtree in piece.gone)
        rest = rest._replace(gone=rest.gone_text(gone, rows))
    return after, rest
