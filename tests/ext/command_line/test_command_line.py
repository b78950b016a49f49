"""What all commands share: how they say what the system refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from taskorch.ext import command_line as cli


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["suite", "run", "none.yaml"],
            "'none.yaml': no such file or directory (check the path)",
        ),
        (["suite", "plan", "."], "'.': is a directory (name a file)"),
        (
            ["suite", "plan", "file/a.yaml"],
            (
                "'file/a.yaml': not a directory (a file stands where a folder is needed: "
                "name another, or move it)"
            ),
        ),
        (
            ["workspace", "init", "file"],
            (
                "'file': file exists (a file stands where a folder is needed: "
                "name another, or move it)"
            ),
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_to_do(words, said, here, capsys):
    assert cli.main(words) == 2
    assert capsys.readouterr().err == f"taskorch: {said}\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            (
                "no space left on device (make room on the disk, then run the same "
                "command again)"
            ),
        ),
        (
            OSError(errno.EIO, os.strerror(errno.EIO), "a\x1b[31m"),
            (
                "'a\\x1b[31m': input/output error (mend that, then run the same command "
                "again)"
            ),
        ),
        (OSError("odd"), "odd (mend that, then run the same command again)"),
        (
            OSError(),
            "the system has refused it (mend that, then run the same command again)",
        ),
    ],
)
def test_whatever_the_system_refuses_is_a_sentence(
    error, said, here, capsys, monkeypatch
):
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert cli.main(["workspace", "init", "new"]) == 2
    assert capsys.readouterr().err == f"taskorch: {said}\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["why", "NOTHING"], "the id of a task is its path in tasks/, without .md"),
        (["retry", "NOTHING"], "the id of a task is its path in tasks/, without .md"),
        (["run", "--phase", "NOTHING"], "a phase is a folder in tasks/"),
    ],
)
def test_who_types_a_command_is_told_of_files_and_not_of_methods(
    words, hint, here, capsys
):
    (here / "tasks").mkdir()
    assert cli.main(["workspace", *words]) == 2
    assert f"'NOTHING' ({hint})\n" in capsys.readouterr().err
