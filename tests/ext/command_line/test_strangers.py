"""What whoever sees the command line for the first time does, and what it answers."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from tests.ext.command_line.tools import FLOW, forget, taskorch

from taskorch.ext.command_line._terminal import size


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("flow_file.py").write_text(FLOW, encoding="utf-8")
    yield tmp_path
    forget(tmp_path)


@pytest.fixture
def journal(here, capsys):
    assert taskorch(capsys, "run", "flow_file.py", "--journal", "runs.db")[0] == 1
    return "runs.db"


def test_without_a_word_there_is_help(capsys):
    code, out, err = taskorch(capsys)
    assert (code, out) == (2, "")
    assert "run a workflow or tasks that a file defines" in err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("insepct", "there is no command 'insepct': did you mean 'inspect'?"),
        ("xyzzy", "there is no command 'xyzzy': see taskorch --help"),
    ],
)
def test_a_command_that_there_is_not_is_told_with_the_nearest(typed, said, capsys):
    code, _, err = taskorch(capsys, typed, "x")
    assert code == 2
    assert said in err


@pytest.mark.parametrize("verb", ["inspect", "explain"])
def test_a_task_may_come_after_the_options(verb, journal, capsys):
    straight = taskorch(capsys, verb, journal, "flow/total")
    # Once, the same words in another order were refused.
    for words in (
        (verb, "--json", journal, "flow/total"),
        (verb, journal, "--json", "flow/total"),
    ):
        code, out, _ = taskorch(capsys, *words)
        assert code == 0
        assert '"flow/total"' in out
    assert "flow/total is blocked" in straight[1]
    code, _, err = taskorch(capsys, verb, journal, "--json", "flow/total", "more")
    assert code == 2
    assert "unrecognized arguments: more" in err


def test_an_option_that_there_is_not_is_told_with_the_nearest(here, capsys):
    code, _, err = taskorch(capsys, "run", "x.py", "--jornal", "runs.db")
    assert code == 2
    assert "--jornal runs.db; for --jornal, did you mean --journal?" in err
    code, _, err = taskorch(capsys, "workspace", "run", "--dryrun")
    assert "for --dryrun, did you mean --dry-run?" in err
    code, _, err = taskorch(capsys, "run", "x.py", "--zzz=3")
    assert err.endswith("unrecognized arguments: --zzz=3\n")


def test_a_word_that_there_is_not_is_told_with_the_nearest(here, capsys):
    add = ("schedules", "runs.db", "add", "nightly", "--overlap")
    code, _, err = taskorch(capsys, *add, "skipp")
    assert code == 2
    assert "did you mean 'skip'?" in err or "maybe you meant 'skip'?" in err
    _, _, err = taskorch(capsys, *add, "zzz")
    assert "you mean" not in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nprint(1 / 0)\n", ["made_bad.py", "line 2", "ZeroDivisionError: div"]),
        ("def f(:\n", ["made_bad.py", "line 1", "SyntaxError: invalid syntax"]),
        ("import no_such_made\n", ["line 1", "No module named 'no_such_made'"]),
        (
            "from taskorch import Workflow\nWorkflow('a').task(1)\n",
            ["line 2", "needs something that can be called, not 1"],
        ),
    ],
)
@pytest.mark.parametrize("words", [["made_bad.py"], ["-m", "made_bad"]])
def test_a_file_that_raises_is_shown_where_and_no_more(text, said, words, here, capsys):
    Path("made_bad.py").write_text(text, encoding="utf-8")
    code, out, err = taskorch(capsys, "run", *words)
    assert (code, out) == (2, "")
    for part in said:
        assert part in err
    assert "importlib" not in err
    assert "taskorch/ext/command_line" not in err
    assert err.splitlines()[-1].startswith(f"taskorch: {words[-1]} cannot be imported:")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import sys\nsys.exit(0)\n", ["made_bad.py"]),
        ("raise SystemExit\n", ["-m", "made_bad"]),
        ("def flow():\n    raise SystemExit(0)\n", ["made_bad.py:flow"]),
        ("exit()\n", ["made.yaml", "--functions", "made_bad"]),
    ],
)
def test_a_file_that_ends_the_process_was_not_run(text, words, here, capsys):
    Path("made_bad.py").write_text(text, encoding="utf-8")
    Path("made.yaml").write_text("workflow: w\ntasks: {}\n", encoding="utf-8")
    code, out, err = taskorch(capsys, "run", *words)
    assert (code, out) == (2, "")
    last = err.splitlines()[-1]
    assert "SystemExit: it ends the process, and nothing was run" in last


def test_a_module_that_is_not_there_needs_no_traceback(here, capsys):
    for name in ("no_such_made", "no_such_made.flow"):
        code, _, err = taskorch(capsys, "run", "-m", name)
        assert (code, err) == (2, "taskorch: No module named 'no_such_made'\n")


@pytest.mark.parametrize(
    "text", ["a: [1\n", "workflow: w\ntasks:\n  a: {progam: [echo]}\n"]
)
def test_a_document_that_is_refused_is_named(text, here, capsys):
    Path("made.yaml").write_text(text, encoding="utf-8")
    code, _, err = taskorch(capsys, "run", "made.yaml")
    assert code == 2
    assert err.startswith("taskorch: made.yaml: ")


def test_what_the_terminal_has_no_letter_for_is_shown_otherwise(
    journal, capsys, monkeypatch
):
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    code, _, err = taskorch(capsys, "explain", journal, "flow/total")
    assert (code, err) == (0, "")
    shown.flush()
    assert rb"\u2192" in shown.buffer.getvalue()


def test_a_command_may_have_no_output(journal):
    command = f"'{sys.executable}' -W ignore -m taskorch inspect {journal} --tasks >&-"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_beside_it_is_not_said_again(journal, capsys):
    out = taskorch(capsys, "inspect", journal, "--tasks")[1]
    details = {line.split()[0]: line for line in out.splitlines()}
    assert details["flow/page-3"].endswith(r"  ValueError: no page \x1b[31m3")
    assert details["flow/prog"].endswith("  program 'sh' exited with code 3: said")
    assert details["flow/total"].endswith("  flow/page-3 did not complete")
    out = taskorch(capsys, "inspect", journal, "flow/prog")[1]
    assert out.count("exited with code 3") == 1
    sys.modules.pop("flow_file")
    out = taskorch(capsys, "run", "flow_file.py", "-q")[1]
    assert out.startswith("slowest:\n")
    assert "cause   program 'sh' exited with code 3: said\n" in out


def test_simulate_says_how_to_give_times(here, capsys):
    code, _, err = taskorch(capsys, "simulate", "flow_file.py")
    assert code == 2
    assert "--duration fetch=90s" in err


def test_a_folder_that_is_not_there_is_no_success(here, capsys):
    code, out, err = taskorch(capsys, "workspace", "run", "--agent", "true")
    assert (code, out) == (1, "There are no tasks.\n")
    assert err == (
        "tasks:1:1: there is no such folder: taskorch workspace init makes it\n"
    )
    assert not (here / "workspace").exists()


def test_an_interrupt_while_a_command_is_loaded_is_told_in_a_line(capsys, monkeypatch):
    def interrupted(*_names):
        raise KeyboardInterrupt

    monkeypatch.setattr("taskorch.ext.command_line.built_in", interrupted)
    assert taskorch(capsys, "workspace") == (130, "", "taskorch: interrupted\n")


def test_sizes_are_for_people():
    assert [size(n) for n in (0, 45_056, 5 << 20)] == ["0 KiB", "44 KiB", "5.0 MiB"]
