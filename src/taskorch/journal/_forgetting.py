"""
Leaving out the facts about some tasks, for good, within one transaction.

A group of which something goes is written anew, as a *rest*: it keeps the checksum of
the group that it was, from which the next group goes on, and has one of its own over
what is left. Rests beside each other become one. So what stays is checked as before,
and no group behind is touched. A snapshot stays that names none of these tasks.

Of the rows that go, a rest keeps hashes in the tree over all rows: see `kit.tree`.

Decisions: 0051, 0220, 0227.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from taskorch.journal._codec import Row
from taskorch.journal.tables import KEEP_GROUP, ChainStart, GroupRow, Reader, reach
from taskorch.kit.tree import Subtree, gone_of, joined, spread

#: A rest has no more facts than this, if the groups that it is made of allow it.
_MANY: Final = 1_000

_DROP: Final = "DELETE FROM {groups} WHERE {mine}last > :after AND last <= :last"
_DROP_FACTS: Final = """
    DELETE FROM {facts} WHERE {mine}seq IN (SELECT value FROM {numbers})
"""
_DROP_SNAPSHOT: Final = "DELETE FROM {snapshots} WHERE {mine}seq = :seq"
_CHANGE_SNAPSHOT: Final = "UPDATE {snapshots} SET crc = :crc WHERE {mine}seq = :seq"
_COUNT: Final = "SELECT count(*) FROM {facts} WHERE {mine}seq > :after AND seq <= :last"
_IS_SAME: Final = """
    SELECT count(*) FROM {groups} WHERE {mine}last = :last AND crc = :crc
    AND form = :form
"""
#: Those lists of a snapshot that name tasks.
_NAMING: Final = ("tasks", "gone")


def forget(reader: Reader, ids: Collection[str], facts: Collection[int] = ()) -> int:
    """
    Leave out the facts about the tasks of *ids*, and return how many they were.

    So are single *facts*, by their numbers, which are about no task.

    It is done within a transaction of the caller's.

    Raises:
        JournalError: A group that has some of them is damaged; nothing was changed.
    """
    session = reader.session
    names = reader.names_of(ids)
    numbers = sorted({*(reader.numbers(names) if names else ()), *facts})
    if not numbers:
        return 0
    snapshots = _staying(reader, names)
    rests = list(_rests(reader, numbers, names, frozenset(facts)))
    reach("forget")
    if names:
        session.leave_out([*names])
    if facts:
        session.change(_DROP_FACTS, numbers=sorted(facts))
    reach("rests")
    for after, rest in rests:
        session.change(_DROP, after=after, last=rest.last)
        session.change(KEEP_GROUP, **rest.columns())
        session.put_into_life(after, rest.last, rest.epoch)
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
    The snapshots by their numbers: each as a text, and the checksum of its group.

    "" is one that names a task that goes, or is damaged.
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
    Groups of very many facts, and what each may become: rests of some of its facts.

    So that what is left out later takes the time of a rest. They are checked; the
    latest group is none of them, since it may be in doubt.
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
    The rows of *group*, which comes after *before*: damage must not get a new sum.

    Raises:
        JournalError: It is damaged.
    """
    rows = reader.whole(group, before)
    reader.check_link(group, before, rows, start)
    return rows


def _parted(group: GroupRow, after: int, rows: list[Row]) -> list[GroupRow]:
    """What *group*, which is above *after* and has these *rows*, is made of."""
    rests: list[GroupRow] = []
    leaves = _leaves(group, rows)
    for place in range(0, len(rows), _MANY):
        some = rows[place : place + _MANY]
        # What goes on from it goes on from the last part.
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
    """The leaves of *group*, which has these *rows*; none if it is in no chain."""
    if not group.hash:
        return iter(())
    return spread(rows, group.size, gone_of(group.gone))


def replace(reader: Reader, group: GroupRow, rests: list[GroupRow]) -> None:
    """Have *rests* in the place of *group*, unless it has become another since."""
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
    """A group of which something goes, or a rest before it."""

    group: GroupRow
    #: The number above which it begins.
    start: int
    #: The rows that stay.
    rows: list[Row]
    #: The hashes of those that go, or went before.
    gone: list[Subtree]


def _rests(
    reader: Reader, numbers: list[int], names: set[str], facts: frozenset[int]
) -> Iterator[tuple[int, GroupRow]]:
    """What groups become that have facts of *numbers*, each with where it begins."""
    pieces: list[_Piece] = []
    count = 0
    for piece in _pieces(reader, numbers, names, facts):
        if pieces and (
            piece.start != pieces[-1].group.last
            or count >= _MANY
            # What an earlier version wrote is in no chain.
            or bool(piece.group.hash) != bool(pieces[-1].group.hash)
        ):
            yield _rest(pieces)
            pieces, count = [], 0
        pieces.append(piece)
        count += len(piece.rows)
    yield _rest(pieces)


def _pieces(
    reader: Reader, numbers: list[int], names: set[str], facts: frozenset[int]
) -> Iterator[_Piece]:
    """
    Those groups; each is checked.

    Raises:
        JournalError: One is damaged.
    """
    reached, start = 0, reader.chain_start()
    for group, before, rows in reader.holding(numbers):
        # So that the rests of many times do not stay beside each other.
        if before.is_rest and before.last != reached:
            earlier = reader.before(before.last)
            rest = _whole(reader, before, earlier, start)
            yield _piece(before, earlier, rest, rest)
        reader.check_link(group, before, rows, start)
        stay = [row for row in rows if row[3] not in names and row[0] not in facts]
        yield _piece(group, before, rows, stay)
        reached = group.last


def _piece(
    group: GroupRow, before: GroupRow, rows: list[Row], stay: list[Row]
) -> _Piece:
    """Of *group*, which comes after *before*, some of its *rows* stay."""
    kept = {row[0] for row in stay}
    gone = [
        subtree
        for subtree, row in _leaves(group, rows)
        if row is None or row[0] not in kept
    ]
    return _Piece(group, before.last, stay, gone)


def _rest(pieces: list[_Piece]) -> tuple[int, GroupRow]:
    """What is left of *pieces*, which follow each other, and where it begins."""
    latest, after = pieces[-1].group, pieces[0].start
    rows = [row for piece in pieces for row in piece.rows]
    rest = latest.rest(after + 1, rows)
    if rest.hash:
        gone = joined(subtree for piece in pieces for subtree in piece.gone)
        rest = rest._replace(gone=rest.gone_text(gone, rows))
    return after, rest
