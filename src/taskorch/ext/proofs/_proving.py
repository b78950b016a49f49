"""
Checks of a journal and of its checkpoints; and proofs of parts of it.

Decision: proofs-of-a-journal.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import attrs

from taskorch.core.journal import Row, SqlJournal, open_journal
from taskorch.core.journal._reader import start_in
from taskorch.core.journal.tables import GroupRow
from taskorch.errors import InvalidTaskError, JournalError, JournalUnavailableError
from taskorch.ext.proofs._anchors import anchor, checkpoints_at, is_url
from taskorch.ext.proofs._notes import (
    Checkpoint,
    PublicKey,
    checkpoint_of,
    is_signed,
    read_private_key,
    read_public_keys,
)
from taskorch.ext.proofs._tree import (
    GrowingTree,
    Range,
    RangeHashes,
    consistency,
    extended,
    included,
    inclusion,
)
from taskorch.kit.address import without_password
from taskorch.kit.clock import wall
from taskorch.kit.frozen import frozen
from taskorch.kit.tree import Subtree, gone_of, leaf_bytes, leaf_of, spread
from taskorch.kit.visible import counted, show
from taskorch.kit.words import stamp

#: Seconds by which a clock may be ahead of ours before that is reported.
_SKEW: Final = 60.0
_FORM: Final = "taskorch/proof/1"
#: The number of rows whose leaves are computed at once.
_MANY: Final = 1_000
Path = str | os.PathLike[str]


@frozen
class CheckedCheckpoint:
    """
    A checkpoint, compared with the journal that it is of.

    Attributes:
        checkpoint: The checkpoint.
        place: Where it is kept.
        signed_by: The trusted key that signed it; "" if none did.
        others: Keys that it names, and that are not trusted.
        state: `fits`: the journal extends it. `differs`: it does not. `cut`: the
            journal is shorter. `forgotten`: rows on both sides of its end were deleted
            since, so it cannot be compared. `other`: it is of another journal.
            `forged`: the signature of a trusted key does not fit this text. `ignored`:
            no trusted key signed it.
        note: The note on its oddities; "" if there are none.
    """

    checkpoint: Checkpoint
    place: str
    signed_by: str
    others: tuple[str, ...]
    state: str
    note: str = ""


#: States in which something was changed.
_BAD: Final = frozenset({"differs", "cut", "forged"})


@frozen
class Verification:
    """
    The result of checking a journal.

    Attributes:
        journal: Its name, for people.
        problem: The first thing that was changed; "" if nothing was.
        log: The id of the journal; "" if it has no chain, or could not be read so far.
        last: The number of its last event.
        size: The number of rows in its chain.
        left_out: How many of these were deleted: see retention.
        unchained: The number of the last event that is older than the chain.
        root: The root of the tree over the rows; b"" if it was not computed.
        checkpoints: The checkpoints that it was compared with.
        is_trusting: Whether no trusted keys were named.
        starts: How often an orchestrator has opened it.
    """

    journal: str
    problem: str
    log: str = ""
    last: int = 0
    size: int = 0
    left_out: int = 0
    unchained: int = 0
    root: bytes = b""
    checkpoints: tuple[CheckedCheckpoint, ...] = ()
    is_trusting: bool = True
    starts: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing was changed, as far as can be found out here."""
        return not self.problem

    @property
    def compared(self) -> int:
        """The number of checkpoints that the journal extends."""
        return sum(each.state == "fits" for each in self.checkpoints)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a dict of JSON values."""
        return {
            "journal": self.journal,
            "ok": self.ok,
            "problem": self.problem,
            "log": self.log,
            "last_event": self.last,
            "rows": self.size,
            "left_out": self.left_out,
            "unchained_until": self.unchained,
            "root": b64encode(self.root).decode(),
            "checkpoints": [
                {
                    "place": each.place,
                    "last_event": each.checkpoint.last,
                    "rows": each.checkpoint.size,
                    "time": each.checkpoint.at,
                    "signed_by": each.signed_by,
                    "untrusted": list(each.others),
                    "state": each.state,
                    "note": each.note,
                }
                for each in self.checkpoints
            ],
        }

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _lines(result: Verification) -> Iterable[str]:
    if result.problem:
        yield f"{result.journal} is not what it was: {result.problem}"
    elif not result.last and result.starts:
        times = counted(result.starts, "time")
        yield f"{result.journal} is empty, and was opened {times}."
    else:
        yield f"{result.journal} is what it was, up to event {result.last}."
    if result.log and result.unchained:
        yield (
            f"Events up to {result.unchained} are older than its chain: sums alone "
            "guard them."
        )
    if not result.log and not result.problem:
        yield (
            "It has no chain yet: an orchestrator that opens it begins one. Sums alone "
            "guard it."
        )
    if result.left_out:
        yield f"Retention has left out {counted(result.left_out, 'row')} of it."
    for each in result.checkpoints:
        by = f", signed by {each.signed_by}" if each.signed_by else ""
        others = "".join(
            f", signed by {key}, which is not trusted" for key in each.others
        )
        at = each.checkpoint.at
        yield (
            f"Checkpoint of event {each.checkpoint.last}, {at}{by}{others}: "
            f"{_WORDS[each.state]}{f' ({each.note})' if each.note else ''}"
        )
    if not result.checkpoints and not result.problem:
        yield (
            "No checkpoint was named: who can write to the journal can write all of it "
            "anew."
        )
    elif result.is_trusting and result.checkpoints:
        yield "Nobody said which keys are trusted: no signature was checked."


_WORDS: Final = {
    "fits": "the journal extends it.",
    "differs": "the journal does not extend it.",
    "cut": "the journal is shorter.",
    "forgotten": "rows around its end were left out since, so it cannot be compared.",
    "other": "it is of another journal.",
    "forged": "the signature is none of this text.",
    "ignored": "nothing is concluded from it.",
}


# -- what the journal has ------------------------------------------------------------


class _Pass(NamedTuple):
    """The results of reading a journal once."""

    log: str
    unchained: int
    last: int
    size: int
    left_out: int


Visitor = Callable[[Sequence[Subtree], Sequence[Row]], object]


def _name(journal: Path | SqlJournal) -> str:
    """Return the name of the journal, for people."""
    if isinstance(journal, SqlJournal):
        return journal.description()
    return without_password(str(journal))


@contextmanager
def _opened(journal: Path | SqlJournal) -> Iterator[SqlJournal]:
    opened = journal if isinstance(journal, SqlJournal) else open_journal(journal)
    try:
        opened.check_readable()
        yield opened
    finally:
        if opened is not journal:
            opened.close()


def _read(journal: SqlJournal, visit: Visitor | None) -> _Pass:
    """
    Check all of *journal*, and show the leaves of its tree to *visit*.

    Raises:
        JournalError: It is damaged.
    """
    last = size = left_out = 0
    waiting: list[Row] = []

    def show() -> None:
        if visit is not None and waiting:
            visit([each for each, _ in spread(waiting, size, ())], waiting)
        waiting.clear()

    def see(group: GroupRow, rows: list[Row]) -> None:
        nonlocal last, size, left_out
        last = group.last
        if not group.hash:
            return
        if not group.gone:
            size = group.size
            if visit is not None:
                waiting.extend(rows)
            if len(waiting) >= _MANY:
                show()
            return
        show()
        left_out += group.size - size - len(rows)
        size = group.size
        if visit is not None:
            gone = gone_of(group.gone)
            visit([each for each, _ in spread(rows, size, gone)], rows)

    start = journal.proved(see)
    show()
    if start is None:
        return _Pass("", last, last, 0, 0)
    return _Pass(start.log, start.after, last, size, left_out)


# -- checking ------------------------------------------------------------------------


def verify(
    journal: Path | SqlJournal,
    anchors: Iterable[str] = (),
    *,
    trust: Iterable[Path] | None = None,
) -> Verification:
    """
    Check all that a journal keeps, and that it extends its checkpoints.

    It may be in use meanwhile; then it is checked as of one moment. No value of a task
    is restored, and no class of the user's is needed.

    Hashes guard the events, the groups in which they were kept, and the keys.

    Args:
        journal: The path of one in a file, or the address of one in PostgreSQL.
        anchors: Places of checkpoints: files, or `git:FOLDER`. Without any, an attacker
            who has rewritten all from some row on, with right hashes, or has cut off
            the tail, is not found out.
        trust: Files of public keys. A checkpoint that none of them signed proves
            nothing. None: signatures are not checked, and the checkpoints at *anchors*
            are believed.

    Returns:
        The result. `ok` is False if anything was changed.

    Raises:
        InvalidTaskError: A checkpoint at *anchors*, or a key, is not well formed; or
            the extra `audit` is missing.
        JournalUnavailableError: The journal cannot be read now.
        OSError: An anchor or a key cannot be read.
    """
    keys = None if trust is None else read_public_keys(trust)
    places = list(anchors)
    # These come first, since the journal may grow meanwhile.
    checked = [
        _signed(each, place, keys)
        for place in anchors
        for each in checkpoints_at(place)
    ]
    tree = GrowingTree(each.checkpoint.size for each in checked)
    name = _name(journal)
    try:
        with _opened(journal) as opened:
            seen = _read(opened, _adding(tree) if checked else None)
            starts = 0 if seen.last else opened.owner().get("epoch", 0)
    except JournalUnavailableError:
        raise
    except JournalError as error:
        problem = error.message.partition(" is damaged: ")[2]
        if not problem:
            raise
        return Verification(name, problem, is_trusting=keys is None)
    checked = [_compared(each, seen, tree.roots) for each in checked]
    return Verification(
        name,
        _problem(checked, seen.last)
        if checked or not places
        else "no checkpoint is kept there",
        seen.log,
        seen.last,
        seen.size,
        seen.left_out,
        seen.unchained,
        tree.root() if checked else b"",
        tuple(_noted(checked)),
        trust is None,
        starts,
    )


def _adding(tree: GrowingTree) -> Visitor:
    return lambda subtrees, _: tree.add(subtrees)


def _signed(
    checkpoint: Checkpoint, place: str, keys: Mapping[str, PublicKey] | None
) -> CheckedCheckpoint:
    """Return *checkpoint* with its signer; `state` is what the signature shows."""
    names = tuple(each.key for each in checkpoint.signatures)
    if keys is None:
        return CheckedCheckpoint(checkpoint, place, "", names, "")
    others = tuple(name for name in names if name not in keys)
    for each in checkpoint.signatures:
        if each.key in keys:
            state = "" if is_signed(checkpoint, each, keys) else "forged"
            return CheckedCheckpoint(checkpoint, place, each.key, others, state)
    return CheckedCheckpoint(checkpoint, place, "", others, "ignored")


def _compared(
    checked: CheckedCheckpoint, seen: _Pass, roots: Mapping[int, bytes]
) -> CheckedCheckpoint:
    checkpoint = checked.checkpoint
    state = checked.state
    if not state:
        if checkpoint.log != seen.log:
            state = "other"
        elif checkpoint.size > seen.size:
            state = "cut"
        elif checkpoint.size not in roots:
            state = "forgotten"
        else:
            same = roots[checkpoint.size] == checkpoint.root
            state = "fits" if same else "differs"
    return attrs.evolve(checked, state=state)


def _problem(checked: Sequence[CheckedCheckpoint], last: int) -> str:
    """Return the first change since a signature; *last* is the last event."""
    by_size = sorted(checked, key=lambda each: each.checkpoint.size)
    good = 0
    for each in by_size:
        point = each.checkpoint
        if each.state == "fits":
            good = point.last
        if each.state == "differs":
            return (
                f"some of events {good + 1} to {point.last} are not those of the "
                f"checkpoint of {point.at}; with right hashes: they were written anew, "
                "or another copy of the journal went on"
            )
        if each.state == "cut":
            return (
                f"the end after {last} is gone: the checkpoint of {point.at} was of "
                f"{counted(point.size, 'row')}, up to event {point.last}"
            )
        if each.state == "forged":
            return (
                f"the checkpoint of {point.at} was changed: the signature of "
                f"{each.signed_by} is none of its text"
            )
    states = {each.state for each in checked}
    if checked and "fits" not in states:
        if states == {"ignored"}:
            return "no trusted key signed any checkpoint"
        if "forgotten" not in states:
            return "no checkpoint is of this journal"
    return ""


def _noted(checked: Iterable[CheckedCheckpoint]) -> Iterable[CheckedCheckpoint]:
    """Add notes on what is strange about their order and their times."""
    latest: dict[tuple[str, str], Checkpoint] = {}
    seen: dict[tuple[str, int], bytes] = {}
    now = stamp(wall() + _SKEW)
    for each in checked:
        point, notes = each.checkpoint, list[str]()
        before = latest.get((each.place, point.log))
        if seen.setdefault((point.log, point.size), point.root) != point.root:
            notes.append("another of as many rows has another root: there are two")
        if before is not None and point.size < before.size:
            notes.append("an earlier one, kept again after a later one")
        elif before is not None and point.at < before.at:
            notes.append("its time is before that of the one before it")
        if point.at > now:
            notes.append("its time is in the future")
        latest[each.place, point.log] = point
        yield attrs.evolve(each, note="; ".join(notes))


# -- checkpoints -----------------------------------------------------------------------


def make_checkpoint(
    journal: Path | SqlJournal, key: Path, *, to: Iterable[str] = ()
) -> Checkpoint:
    """
    Sign the present state of a journal, and keep the checkpoint elsewhere.

    First, all of the journal is checked, and that it extends the checkpoints that *to*
    has already: a changed journal is not signed. It may be in use meanwhile.

    Args:
        journal: See `verify`.
        key: The file of a key: see `make_key`.
        to: Places to keep it: files, `git:FOLDER`, or the URL of a webhook.

    Returns:
        The checkpoint; its text is `str` of it.

    Raises:
        JournalError: The journal was changed, or it has no chain yet.
        JournalUnavailableError: It cannot be read, or a place has not accepted it.
        InvalidTaskError, OSError: See `verify` and `anchor`.
    """
    private = read_private_key(key)
    places = list(to)
    name = _name(journal)
    with _opened(journal) as opened:
        earlier = [
            each
            for place in places
            if not is_url(place) and _is_there(place)
            for each in checkpoints_at(place)
        ]
        tree = GrowingTree(each.size for each in earlier)
        seen = _read(opened, _adding(tree))
    if not seen.log:
        msg = f"{name} has no chain yet"
        raise JournalError(msg, hint="open it with an orchestrator, which begins one")
    keys = {private.public.key: private.public}
    # A checkpoint that this key has not signed is no reason to refuse.
    checked = [_compared(_signed(each, "", keys), seen, tree.roots) for each in earlier]
    for each in checked:
        if each.state in _BAD:
            msg = f"{name} is not what it was: {_problem(checked, seen.last)}"
            hint = "look what happened; to begin anew, name another place"
            raise JournalError(msg, hint=hint)
    checkpoint = private.signed(
        Checkpoint(
            seen.log, seen.size, tree.root(), seen.last, stamp(wall()), seen.left_out
        )
    )
    for place in places:
        anchor(checkpoint, place)
    return checkpoint


def _is_there(place: str) -> bool:
    return place.startswith("git:") or os.path.exists(place)  # noqa: PTH110 - text


# -- proofs ----------------------------------------------------------------------------


@frozen
class Proved:
    """
    The statement that a proof proves.

    Attributes:
        row: The row of the proved event, as the journal keeps it; "" for a proof that
            one checkpoint extends another.
        checkpoint: The checkpoint that has the event, or the earlier of the two.
        later: The later checkpoint, which extends it; None for a proof of an event.
        signed_by: The trusted key that signed *checkpoint* (and *later*).
    """

    row: str
    checkpoint: Checkpoint
    later: Checkpoint | None
    signed_by: str


def prove_event(
    journal: Path | SqlJournal, event: int, anchors: Iterable[str]
) -> dict[str, Any]:
    """
    Prove that an event is in a journal, by the first checkpoint that has it.

    Args:
        journal: See `verify`.
        event: The number of the event.
        anchors: Places of checkpoints.

    Returns:
        The proof, for `check_proof`; it can be written as JSON. Of the journal it
        contains only the row of the event.

    Raises:
        InvalidTaskError: There is no such event, it was deleted, or no checkpoint
            can prove it.
        JournalError, OSError: See `verify`.
    """
    points = sorted(_checkpoints(anchors), key=lambda each: each.size)
    with _opened(journal) as opened:
        tree = GrowingTree(each.size for each in points)
        place, row = -1, None
        is_behind = False

        def visit(subtrees: Sequence[Subtree], rows: Sequence[Row]) -> None:
            nonlocal place, row, is_behind
            tree.add(subtrees)
            if is_behind or not rows or rows[-1][0] < event:
                return
            is_behind = True
            for each in rows:
                if _has(each, event):
                    row, leaf = each, leaf_of(leaf_bytes(each))
                    place = next(sub.place for sub in subtrees if sub.hash == leaf)

        seen = _read(opened, visit)
        if row is None:
            msg = f"{_name(journal)} has no event {event} in its chain"
            hint = "it was left out, or is older than the chain, or is no number of one"
            raise InvalidTaskError(msg, hint=hint)
        for point in points:
            if point.size > place and _fits(point, seen, tree.roots):
                path = _path(opened, inclusion(place, 0, point.size))
                if path is not None:
                    return {
                        "form": _FORM,
                        "row": leaf_bytes(row).decode(),
                        "place": place,
                        "path": path,
                        "checkpoint": str(point),
                    }
    msg = f"no checkpoint that is kept there has event {event}"
    raise InvalidTaskError(msg, hint="make one: taskorch checkpoint")


def _fits(point: Checkpoint, seen: _Pass, roots: Mapping[int, bytes]) -> bool:
    return point.log == seen.log and roots.get(point.size) == point.root


def _path(opened: SqlJournal, ranges: Sequence[Range]) -> list[str] | None:
    """Return the hashes over *ranges*; None if one ends among deleted rows."""
    hashes = RangeHashes(ranges)
    _read(opened, lambda subtrees, _: hashes.add(subtrees))
    if hashes.is_torn:
        return None
    return [b64encode(each).decode() for each in hashes.of(ranges)]


def _has(row: Row, event: int) -> bool:
    """Return whether *row* has *event*, or the end of the attempt it began."""
    return row[0] == event or start_in(row) == event


def prove_extension(
    journal: Path | SqlJournal, anchors: Iterable[str]
) -> dict[str, Any]:
    """
    Prove that the latest checkpoint of a journal extends the first one.

    Args:
        journal: See `verify`.
        anchors: Places of checkpoints.

    Returns:
        The proof, for `check_proof`; of the journal it contains only hashes.

    Raises:
        InvalidTaskError: There are no two that the journal extends.
        JournalError, OSError: See `verify`.
    """
    points = sorted(_checkpoints(anchors), key=lambda each: each.size)
    with _opened(journal) as opened:
        tree = GrowingTree(each.size for each in points)
        seen = _read(opened, _adding(tree))
        fit = [each for each in points if each.size and _fits(each, seen, tree.roots)]
        if len({each.size for each in fit}) > 1:
            old, new = fit[0], fit[-1]
            path = _path(opened, consistency(old.size, 0, new.size))
            if path is not None:
                return {
                    "form": _FORM,
                    "path": path,
                    "checkpoint": str(old),
                    "later": str(new),
                }
    msg = "no two checkpoints that are kept there are of this journal"
    raise InvalidTaskError(msg, hint="make one now and one later: taskorch checkpoint")


def _checkpoints(anchors: Iterable[str]) -> list[Checkpoint]:
    return [each for place in anchors for each in checkpoints_at(place)]


def check_proof(proof: Mapping[str, Any], trust: Iterable[Path]) -> Proved:
    """
    Check a proof, without the journal.

    Args:
        proof: A proof of `prove_event` or `prove_extension`.
        trust: Files of public keys, one of which must have signed the checkpoints.

    Returns:
        The statement that it proves.

    Raises:
        InvalidTaskError: It proves nothing; the message says why.
        OSError: A key cannot be read.
    """
    keys = read_public_keys(trust)
    try:
        form = proof["form"]
        proved = _proved(proof, keys) if form == _FORM else None
    except InvalidTaskError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        msg = "this is no proof, or not all of one"
        raise InvalidTaskError(msg, hint="taskorch prove makes them") from error
    if proved is None:
        msg = f"{show(form)} is no form of a proof that is known here"
        raise InvalidTaskError(msg, hint=f"it is {_FORM}")
    return proved


def _proved(proof: Mapping[str, Any], keys: Mapping[str, PublicKey]) -> Proved:
    path = [b64decode(each, validate=True) for each in proof["path"]]
    first = checkpoint_of(proof["checkpoint"])
    by = _trusted(first, keys)
    if "later" in proof:
        later = checkpoint_of(proof["later"])
        _trusted(later, keys)
        is_good = (
            first.log == later.log
            and 0 < first.size < later.size
            and extended(first.size, 0, later.size, first.root, path)
            == (first.root, later.root)
        )
        proved = Proved("", first, later, by)
    else:
        row, place = proof["row"], proof["place"]
        is_good = (
            type(place) is int
            and 0 <= place < first.size
            and included(place, 0, first.size, leaf_of(row.encode()), path)
            == first.root
        )
        proved = Proved(row, first, None, by)
    if not is_good or path:
        msg = "it does not lead to the root of its checkpoint: it proves nothing"
        raise InvalidTaskError(msg)
    return proved


def _trusted(checkpoint: Checkpoint, keys: Mapping[str, PublicKey]) -> str:
    checked = _signed(checkpoint, "", keys)
    if checked.state == "forged":
        msg = f"the signature of {checked.signed_by} is none of its checkpoint"
        raise InvalidTaskError(msg)
    if not checked.signed_by:
        by = ", ".join(checked.others) or "nobody"
        msg = f"its checkpoint of {checkpoint.at} is signed by {by}: no trusted key"
        raise InvalidTaskError(msg, hint="name its file of public keys")
    return checked.signed_by
