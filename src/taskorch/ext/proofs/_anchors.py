"""
Places for checkpoints, outside the journal that they are of.

- A file: one after another, and none is ever changed. Let it be on another machine, or
  let another user than the orchestrator's own it.
- `git:FOLDER`, `git:FOLDER@REF`: notes of the present commit of a repository, which a
  push takes elsewhere: `git push origin refs/notes/taskorch`.
- `https://…`: a webhook, which gets them; they cannot be read back here.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taskorch.errors import InvalidTaskError, JournalUnavailableError
from taskorch.ext.proofs._notes import Checkpoint, checkpoint_of, notes_of
from taskorch.kit.clock import wall

_GIT: Final = "git:"
_REF: Final = "taskorch"
#: Seconds for a webhook, and for git.
_PATIENCE: Final = 30.0


def anchor(checkpoint: Checkpoint, place: str) -> None:
    """
    Keep *checkpoint* at *place*: a file, `git:FOLDER` or a URL.

    Raises:
        InvalidTaskError: *place* is none of these.
        JournalUnavailableError: git or the webhook has not accepted it.
        OSError: The file cannot be written.
    """
    note = str(checkpoint)
    if is_url(place):
        _send(checkpoint, place)
    elif place.startswith(_GIT):
        folder, ref = _repository(place)
        _git(folder, "notes", f"--ref={ref}", "append", "-F", "-", "HEAD", text=note)
    else:
        _append(Path(place), note)


def _append(path: Path, note: str) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    number = os.open(path, flags, 0o644)
    try:
        size = os.fstat(number).st_size
        # A line that a crash has cut off stays, and does no harm to later ones.
        begin = b"" if not size else b"\n"
        if size and os.pread(number, 1, size - 1) != b"\n":
            begin = b"\n\n"
        # It is one write, so that two at once do not mix.
        os.write(number, begin + note.encode())
        os.fsync(number)
    finally:
        os.close(number)


def _send(checkpoint: Checkpoint, url: str) -> None:
    from taskorch.ext.notices.notifying import sender_of  # noqa: PLC0415 - few need it

    name, send = sender_of(url, secret=None, allow_private=True, timeout=_PATIENCE)
    message = {
        "message_type": "checkpoint",
        "log": checkpoint.log,
        "size": checkpoint.size,
        "text": str(checkpoint),
    }
    try:
        send(message, checkpoint.root.hex()[:32], wall())
    except Exception as error:
        msg = f"{name} has not taken the checkpoint: {error}"
        raise JournalUnavailableError(msg, outcome="unknown") from error


def checkpoints_at(place: str) -> Iterator[Checkpoint]:
    """
    Yield the checkpoints that are kept at *place*, in the order in which they came.

    Raises:
        InvalidTaskError: Something there is none; a webhook cannot be read.
        JournalUnavailableError: git cannot be asked.
        OSError: The file cannot be read.
    """
    if is_url(place):
        msg = f"{place} is sent checkpoints, and shows none"
        raise InvalidTaskError(msg, hint="name a file in which it has kept them")
    if place.startswith(_GIT):
        folder, ref = _repository(place)
        # A repository without such notes has none.
        names = _git(folder, "notes", f"--ref={ref}", "list").split()[::2]
        texts = [_git(folder, "cat-file", "blob", name) for name in names]
        checkpoints = [checkpoint_of(note) for text in texts for note in notes_of(text)]
        yield from sorted(checkpoints, key=lambda each: (each.at, each.size))
        return
    for note in notes_of(Path(place).read_text(encoding="utf-8")):
        yield checkpoint_of(note)


def is_url(place: str) -> bool:
    """Return whether *place* is the URL of a webhook."""
    return place.startswith(("http://", "https://"))


def _repository(place: str) -> tuple[str, str]:
    folder, _, ref = place.removeprefix(_GIT).rpartition("@")
    return (folder, ref) if folder else (ref, _REF)


def _git(folder: str, *words: str, text: str | None = None) -> str:
    try:
        process = subprocess.run(  # noqa: S603 - no shell reads it
            ["git", "-C", folder, *words],  # noqa: S607 - the user's own git
            input=text,
            capture_output=True,
            encoding="utf-8",
            timeout=_PATIENCE,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        msg = f"git {words[0]} failed in {folder}: {error.stderr.strip()}"
        raise JournalUnavailableError(msg, outcome="refused") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"git cannot be asked in {folder}: {error}"
        raise JournalUnavailableError(msg, outcome="unknown") from error
    return process.stdout
