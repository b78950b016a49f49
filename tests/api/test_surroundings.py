"""Surroundings that fail us: a working folder that is gone, a bare locale, any umask."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap

import pytest


def said_by(script, **variables):
    """What *script* prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, **variables},
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert not done.returncode, done.stderr
    return done.stdout.decode().splitlines()


GONE = """
    import os, tempfile
    from taskorch import SqliteJournal, TaskOrchestrator
    from taskorch.errors import JournalError
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)
    for make in (lambda path: TaskOrchestrator(journal=path), SqliteJournal):
        try:
            make("runs.db")
        except JournalError as error:
            print(error)
    with TaskOrchestrator() as orch:
        print(orch.submit(pow, 2, 3).result(60))
"""


def test_a_relative_journal_without_a_folder_says_what_to_do():
    """Else it works: nothing else needs the folder."""
    said = "runs.db is a relative path, and the working folder is gone"
    told = f"{said} (give an absolute path)"
    assert said_by(GONE) == [told, told, "8"]


LOCALE = r"""
    import sys
    from taskorch import Task, TaskOrchestrator
    code = "import os, sys; os.write(1, os.fsencode(sys.argv[1]))"
    code += "; os.write(1, os.environb[b'A'] + bytes([195, 164, 255]))"
    with TaskOrchestrator() as orch:
        task = Task.program([sys.executable, "-c", code, "\u00fc"], env={"A": "\u00f6"})
        print(ascii(orch.submit_task(task).result(60).stdout_tail))
        def fail():
            raise LookupError("\u00e4")
        print(ascii(str(orch.submit(fail).exception(60))))
"""


@pytest.mark.parametrize("utf8", ["0", "1"])
def test_the_locale_does_not_matter(utf8):
    """Arguments and variables go as UTF-8, and output is read as that."""
    told = said_by(LOCALE, LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8=utf8)
    assert told == [r"'\xfc\xf6\xe4\ufffd'", r"'\xe4'"]


UMASK = """
    import os, sys
    from taskorch import Task, TaskOrchestrator
    os.umask(int(os.environ["UMASK"], 8))
    with TaskOrchestrator(journal=os.environ["FOLDER"] + "/runs.db") as orch:
        code = "import os; print(f'{os.umask(0):03o}')"
        task = Task.program([sys.executable, "-c", code], cwd=os.environ["FOLDER"])
        print(orch.submit_task(task).result(60).stdout_tail.strip())
"""


@pytest.mark.parametrize("umask", ["000", "077"])
def test_a_program_has_our_umask_and_our_files_are_ours_alone(tmp_path, umask):
    """However open ours is, nobody else reads journals and logs."""
    assert said_by(UMASK, UMASK=umask, FOLDER=str(tmp_path)) == [umask]
    logs = [path for path in (tmp_path / "runs.db.logs").rglob("*") if path.is_file()]
    assert logs
    for path in (*logs, tmp_path / "runs.db"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
