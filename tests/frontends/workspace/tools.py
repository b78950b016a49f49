"""Folders of task files."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from taskorch.cli import main


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    """Write *files*; a text that begins with no `---` is the head of a task file."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            path.write_bytes(text)
        elif name.endswith(".md") and not text.startswith("---"):
            path.write_text(f"---\n{text}\n---\n# {path.stem}\n")
        else:
            path.write_text(text)
    return root


def cli(*words: object) -> tuple[int, str, str]:
    """What `taskorch workspace` comes to: the exit code, and what it prints."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["workspace", *map(str, words)])
    return code, out.getvalue(), err.getvalue()
