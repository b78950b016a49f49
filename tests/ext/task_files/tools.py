"""Folders of task files."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from taskorch.ext.command_line import main


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


#: An agent program: notes when it runs, and makes the outputs that its task names. What
#: else it is to do stands in the task file, as lines of a shell after `do:`.
AGENT = r"""#!/bin/sh
file=$1
echo "begin $TASK_ID" >> "$AGENT_LOG"
for name in $(sed -n 's/^outputs: *\[\(.*\)\]/\1/p' "$file" | tr ',' ' '); do
    mkdir -p "$(dirname "$TASK_OUTPUTS/$name")"
    echo "$name of $TASK_ID" > "$TASK_OUTPUTS/$name"
done
eval "$(sed -n 's/^do: //p' "$file")"
echo "end $TASK_ID" >> "$AGENT_LOG"
"""


class Runs:
    """A folder of task files, and an agent program for it."""

    def __init__(self, root: Path, monkeypatch) -> None:
        self.root = root / "ws"
        self.root.mkdir()
        agent = root / "agent"
        agent.write_text(AGENT)
        agent.chmod(0o755)
        self.agent = f"{agent} {{task_file}}"
        self.log = root / "agent.log"
        self.log.write_text("")
        monkeypatch.setenv("AGENT_LOG", str(self.log))

    def write(self, **files: str) -> None:
        """Write task files: `a_1` is `tasks/a/1.md`; each line is one after `|`."""
        heads = {name.replace("_", "/"): text for name, text in files.items()}
        write(
            self.root,
            {f"tasks/{n}.md": t.replace("|", "\n") for n, t in heads.items()},
        )

    def run(self, *words: object) -> tuple[int, list[str]]:
        """The exit code, and what is printed."""
        code, out, err = cli("run", self.root, "--agent", self.agent, *words)
        return code, (out + err).splitlines()

    def status(self, task_id: str) -> dict[str, Any] | None:
        path = self.root / f"workspace/status/{task_id}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def states(self) -> dict[str, str]:
        folder = self.root / "workspace/status"
        found: dict[str, str] = {}
        for path in sorted(folder.rglob("*.json")):
            # A runner may take one away as they are read.
            with contextlib.suppress(FileNotFoundError):
                name = str(path.relative_to(folder).with_suffix(""))
                found[name] = json.loads(path.read_text())["status"]
        return found

    def began(self) -> list[str]:
        """The tasks that began, in that order."""
        lines = self.log.read_text().splitlines()
        return [line.split()[1] for line in lines if line.startswith("begin")]

    def most_at_once(self) -> int:
        now = most = 0
        for line in self.log.read_text().splitlines():
            now += 1 if line.startswith("begin") else -1
            most = max(most, now)
        return most
