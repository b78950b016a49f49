"""Coding agents that are ready to use, with programs that stand for the known ones."""

# pyright: basic, reportOptionalSubscript=false

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.house.pids import is_alive

from taskorch import RetryPolicy, Task, TaskOrchestrator, TaskState
from taskorch.errors import (
    AgentProgramError,
    InvalidTaskError,
    ProgramFailedError,
    TaskTimeoutError,
)

#: Stands for a coding agent that is run for each task: it does what the line says that
#: begins with "!", notes how it was called, and reports as it is told.
ONCE = """
import json, os, subprocess, sys, time
files = [word for word in sys.argv if word == "/dev/stdin"]
prompt = open(files[0]).read() if files else sys.stdin.read()
note = {"args": sys.argv[1:], "prompt": prompt, "cwd": os.getcwd(),
        "key": os.environ.get("MODEL_KEY")}
with open(os.environ["NOTES"], "a") as notes:
    notes.write(json.dumps(note) + "\\n")
for line in prompt.splitlines():
    if line.startswith("!"):
        exec(line[1:])
"""

#: Stands for one that is kept, and speaks the Agent Client Protocol. A prompt has a line
#: of what it does; what it was told in its session, it remembers.
KEPT = """
import json, os, sys, time
with open(os.environ["STARTS"], "a") as starts:
    starts.write(f"{os.getpid()} {json.dumps(sys.argv[1:])}\\n")

def send(**message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\\n")
    sys.stdout.flush()

def update(session, **values):
    params = {"sessionId": session, "update": values}
    send(method="session/update", params=params)

def say(session, text):
    content = {"type": "text", "text": text}
    update(session, sessionUpdate="agent_message_chunk", content=content)

def permit(session, kind, title, **said_before):
    call = {"toolCallId": title, "title": title, "kind": kind}
    if said_before:
        update(session, sessionUpdate="tool_call", **call)
        call = {"toolCallId": title}
    options = [{"optionId": f"{word}-{often}", "name": word, "kind": f"{word}_{often}"}
               for often in ("always", "once") for word in ("allow", "reject")]
    params = {"sessionId": session, "toolCall": call, "options": options}
    send(id="p1", method="session/request_permission", params=params)
    return json.loads(sys.stdin.readline())["result"]["outcome"]["optionId"]

sessions, after = {}, ""
for line in sys.stdin:
    message = json.loads(line)
    number, params = message["id"], message["params"]
    if message["method"] == "initialize":
        send(id=number, result={"protocolVersion": int(os.environ.get("VERSION", 1))})
    elif message["method"] == "session/new":
        if "LOGIN" in os.environ:
            send(id=number, error={"code": -32000, "message": "log in first"})
            continue
        session = f"s{len(sessions)}" if "NAMELESS" not in os.environ else None
        sessions[session] = params["cwd"]
        send(id=number, result={"sessionId": session})
    else:
        session, text = params["sessionId"], params["prompt"][0]["text"]
        cwd, why = sessions[session], "end_turn"
        for each in text.splitlines():
            if each.startswith("!"):
                exec(each[1:])
        send(id=number, result={"stopReason": why})
        exec(after)
"""


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
    command = ["git", *who, *words]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def install(folder: Path, name: str, text: str) -> None:
    """A program of this name that is this Python text."""
    program = folder / name
    program.write_text(f"#!{sys.executable}\n{text}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """The folder that is the PATH: with git, and without any coding agent yet."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("STARTS", str(tmp_path / "starts"))
    return folder


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """A project with a commit, which each test has a copy of."""
    folder = tmp_path_factory.mktemp("made") / "project"
    (folder / "src").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    for name in ("a.py", "b.py", "c.py", "src/d.py"):
        (folder / name).write_text("1\n")
    (folder / ".gitignore").write_text("*.pyc\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "begin")
    return folder


@pytest.fixture
def project(committed, tmp_path):
    """A project with a commit, a file that was changed since, and a new one."""
    folder = Path(shutil.copytree(committed, tmp_path / "project"))
    (folder / "b.py").write_text("by ada\n")
    (folder / "new.py").write_text("by ada\n")
    return folder


@pytest.fixture
def plain(tmp_path):
    """A folder without git, of which nobody asks what has changed in it."""
    folder = tmp_path / "plain"
    folder.mkdir()
    return folder


@pytest.fixture
def orch(tmp_path):
    with TaskOrchestrator(unknown_capability="wait", grace=1) as made:
        yield made
        # Where a test has failed, its runner may wait for ever for what that would do.
        made.stop(drain=False)


def notes(tmp_path: Path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]


def starts(tmp_path: Path) -> list[int]:
    """The ids of the processes of the kept runner, in the order of their starts."""
    file = tmp_path / "starts"
    lines = file.read_text().splitlines() if file.exists() else []
    return [int(line.split(" ", 1)[0]) for line in lines]


def do(orch, prompt, type_="code", **options):
    task = Task(type_, prompt, requires=[type_], **options)
    return orch.submit_task(task)


def spawn(orch, *runner, **options):
    orch.agents.coding(*runner, **options)
    return orch.agents.spawn("code")


# -- a run for each task ---------------------------------------------------------------


def test_a_task_is_a_run_in_the_folder(orch, programs, project, tmp_path, monkeypatch):
    """The prompt has what its type is told, the task, its files and its scopes."""
    monkeypatch.setenv("MODEL_KEY", "k1")
    install(programs, "claude", ONCE)
    agent = spawn(orch, "claude", folder=project, arguments=["--model", "m1"])
    assert (agent.id, agent.type, agent.kind) == ("code-1", "code", "code")
    prompt = "add a retry\n!open('a.py', 'a').write('2'); print('done so')"
    payload = {"prompt": prompt, "files": ["a.py", "c.py"]}
    result = do(orch, payload, writes=["*.py"]).result(PATIENCE)
    assert result["changed"] == ["a.py"]
    assert (result["runner"], result["exit_code"]) == ("claude", 0)
    assert (result["output"], result["folder"]) == ("done so\n", str(project))
    assert "done so" in Path(result["log"]).read_text()
    (note,) = notes(tmp_path)
    assert note["args"] == [
        *("-p", "--permission-mode", "acceptEdits"),
        *("--output-format", "json", "--model", "m1"),
    ]
    assert (note["cwd"], note["key"]) == (str(project), "k1")
    told, asked, files, scopes = note["prompt"].strip().split("\n\n")
    assert told.startswith("You change the code of the project in this folder.")
    assert asked == prompt
    assert files.splitlines()[1:] == ["a.py", "c.py"]
    assert scopes == "Change no file but these: *.py"
    # It never commits, and stages nothing.
    assert git(project, "log", "--format=%s") == "begin\n"
    assert git(project, "diff", "--cached", "--name-only") == ""


@pytest.mark.parametrize(
    ("name", "code", "review"),
    [
        (
            "aider",
            ["--yes-always", "--message-file", "/dev/stdin"],
            ["--yes-always", "--message-file", "/dev/stdin", "--chat-mode", "ask"],
        ),
        (
            "codex",
            ["exec", "--sandbox", "workspace-write", "--json", "-"],
            ["exec", "--json", "-"],
        ),
        (
            "gemini",
            ["--approval-mode", "auto_edit", "--output-format", "json"],
            ["--output-format", "json"],
        ),
        ("goose", ["run", "-i", "/dev/stdin"], ["run", "-i", "/dev/stdin"]),
    ],
)
def test_who_reviews_has_no_right_to_change(
    orch, programs, plain, tmp_path, name, code, review
):
    """Each is run as its documentation says, and is told what its type is for."""
    install(programs, name, ONCE)
    orch.agents.coding(name, folder=plain)
    for type_ in ("code", "review"):
        orch.agents.spawn(type_)
        assert do(orch, "look", type_).result(PATIENCE)["changed"] is None
    first, second = notes(tmp_path)
    assert (first["args"], second["args"]) == (code, review)
    assert "You change the code" in first["prompt"]
    assert "change no file" in second["prompt"]
    assert "look" in second["prompt"]


def test_the_first_that_is_installed_is_taken(orch, programs, project, monkeypatch):
    """In the order of the table; without any, it is said which there are."""
    monkeypatch.chdir(project)
    with pytest.raises(InvalidTaskError, match="none of aider, claude, codex") as error:
        orch.agents.spawn("code")
    assert "{task_file}" in error.value.hint
    install(programs, "goose", ONCE)
    install(programs, "codex", ONCE)
    assert orch.agents.spawn("code").id == "code-1"
    assert do(orch, "x").result(PATIENCE)["runner"] == "codex"
    # A pool makes them, too; and each type is there.
    for type_ in ("test", "review"):
        orch.agents.pool(type_, max_agents=1, interval=0.05)
        assert do(orch, "x", type_).result(PATIENCE)["folder"] == str(project)


def test_a_template_of_ones_own_goes_before(orch, programs):
    orch.agents.template("code", capabilities=["code"], handler=lambda t, _c: t.payload)
    orch.agents.spawn("code")
    assert do(orch, "mine").result(PATIENCE) == "mine"


def test_a_command_of_ones_own(orch, programs, plain, tmp_path):
    """It reads its task from standard input, or from a file; and it is told more."""
    install(programs, "mine", ONCE)
    for args in (["mine", "-v"], ["mine", "--from={task_file}", "{task_file}"]):
        orch.agents.coding(
            args, folder=plain, types=["code"], instructions={"code": "Be brief."}
        )
        agent = orch.agents.spawn("code")
        result = do(orch, "hello\n!print('said')").result(PATIENCE)
        assert (result["runner"], result["output"]) == ("mine", "said\n")
        assert (result["spent"], result["refused"]) == ({}, [])
        orch.agents.terminate(agent.id)
    first, second = notes(tmp_path)
    assert first["args"] == ["-v"]
    assert second["args"] == ["--from=/dev/stdin", "/dev/stdin"]
    for note in (first, second):
        assert note["prompt"].startswith("Be brief.\n\nhello\n")


NO_PROMPTS = [
    (None, "a text, or a mapping with prompt, not None"),
    (["do it"], "a text, or a mapping with prompt"),
    ("  ", "the prompt of the payload is a text, not '  '"),
    ({"files": ["a"]}, "the prompt of the payload is a text, not None"),
    ({"prompt": 5}, "the prompt of the payload is a text, not 5"),
    ({"prompt": "x", "files": "a.py"}, "a list of paths, not 'a.py'"),
    ({"prompt": "x", "files": [5]}, r"a list of paths, not \[5\]"),
    ({"prompt": "x", "file": ["a"]}, "a key 'file', and may have prompt, files"),
]


def test_a_payload_that_is_no_prompt_starts_nothing(orch, programs, plain, tmp_path):
    install(programs, "claude", ONCE)
    install(programs, "gemini", KEPT)
    agent = spawn(orch, "claude", folder=plain)
    for payload, words in NO_PROMPTS:
        with pytest.raises(InvalidTaskError, match=words):
            do(orch, payload).result(PATIENCE)
    orch.agents.terminate(agent.id)
    # One that is kept does the next one.
    spawn(orch, "gemini", folder=plain, reuse=True)
    for payload, words in NO_PROMPTS:
        with pytest.raises(AgentProgramError, match=words):
            do(orch, payload).result(PATIENCE)
    assert do(orch, "fine").result(PATIENCE)["runner"] == "gemini"
    assert not (tmp_path / "notes").exists()


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (["cluade"], {}, "no known coding agent 'cluade'.*did you mean 'claude'"),
        (["codex"], {}, "'codex' is not on the PATH"),
        ([["no-such"]], {}, "'no-such' is not on the PATH"),
        ([[]], {}, "the command of a coding agent is empty"),
        (["claude"], {"folder": "/no/such"}, "there is no folder '/no/such'"),
        (["claude"], {"types": ["tset"]}, "no type 'tset'.*did you mean 'test'"),
        (["claude"], {"instructions": {"x": ""}}, "no type 'x' of coding agents"),
        (["claude"], {"arguments": "-m x"}, r"arguments=\['-m', 'x'\]"),
        (["claude"], {"enfroce": True}, "no option 'enfroce'.*did you mean 'enforce'"),
        (["claude"], {"cwd": "."}, "no option 'cwd'"),
        (["claude"], {"limits": {"memory": 5}}, "none of the name 'memory'"),
        (["claude"], {"reuse": True}, "claude speaks no protocol.*gemini, goose"),
        (["gemini"], {"reuse": True, "enforce": True}, "leave out enforce or reuse"),
    ],
)
def test_bad_words(orch, programs, arguments, options, words):
    install(programs, "claude", ONCE)
    install(programs, "gemini", KEPT)
    with pytest.raises(InvalidTaskError) as error:
        orch.agents.coding(*arguments, **options)
    assert re.search(words, f"{error.value} {error.value.hint}", re.DOTALL)
    # Nothing was made of it.
    assert [one.id for one in orch.agents.list()] == ["local"]


def test_task_files_know_the_same(tmp_path):
    """There is one table: a runner of the templates is a preset of task files."""
    from taskorch.ext.coding._coding import RUNNERS
    from taskorch.ext.task_files._config import PRESETS

    assert [*PRESETS] == ["agent", *RUNNERS]
    for name, runner in RUNNERS.items():
        assert (PRESETS[name].args, PRESETS[name].stdin) == (runner.args, runner.stdin)


# -- what has changed ------------------------------------------------------------------

COMMIT = "subprocess.run(['git', '-c', 'user.name=x', '-c', 'user.email=x@y', "
COMMIT += "'commit', '-qam', 'x'], check=True)"
CHANGES = {
    "nothing": ("pass", []),
    "a new file": ("open('e.py', 'w')", ["e.py"]),
    "an old one": ("open('a.py', 'w')", ["a.py"]),
    "one that was changed": ("open('b.py', 'a').write('x')", ["b.py"]),
    "one that was new": ("open('new.py', 'a').write('x')", ["new.py"]),
    "one is gone": ("os.remove('a.py')", ["a.py"]),
    "a new one is gone": ("os.remove('new.py')", ["new.py"]),
    "renamed": ("os.rename('c.py', 'f.py')", ["c.py", "f.py"]),
    "undone": ("subprocess.run(['git', 'checkout', '-q', 'b.py'])", ["b.py"]),
    "only staged": ("subprocess.run(['git', 'add', 'b.py', 'new.py'])", []),
    "below": ("open('src/d.py', 'a').write('x')", ["src/d.py"]),
    "an odd name": ("open('a b\\u00fc.py', 'w')", ["a b\u00fc.py"]),
    "no UTF-8": ("open(b'\\xff.py', 'w')", ["\\xff.py"]),
    "ignored": ("open('a.pyc', 'w')", []),
    "committed": (f"open('a.py', 'w'); {COMMIT}", ["a.py", "b.py"]),
}


@pytest.mark.slow("git and programs, for each change")
@pytest.mark.parametrize("change", CHANGES)
def test_the_result_names_what_has_changed(
    orch, programs, project, change, monkeypatch
):
    """Also what was other than its commit before; and what the runner has committed."""
    code, names = CHANGES[change]
    if change == "a new file":
        # Somebody's hook has started us: it is about another folder.
        monkeypatch.setenv("GIT_INDEX_FILE", "/no/such")
        monkeypatch.setenv("GIT_DIR", "/no/such")
    install(programs, "claude", ONCE)
    spawn(orch, "claude", folder=project)
    result = do(orch, f"go\n!{code}").result(PATIENCE)
    assert result["changed"] == names


def contents(project: Path) -> dict[str, bytes]:
    """All files of the project, as they are."""
    paths = (path for path in project.rglob("*") if ".git" not in path.parts)
    return {
        str(path.relative_to(project)): path.read_bytes()
        for path in paths
        if path.is_file()
    }


def some_change(draw: random.Random, names: list[str], number: int) -> str:
    """What a runner may do to a file, as a line of Python."""
    name, fresh = draw.choice([*names, "src/e.py"]), f"f{number}.py"
    return draw.choice(
        (
            f"open({name!r}, 'w').write('{number}')",
            f"open({name!r}, 'a').write('{number}')",
            f"open({fresh!r}, 'w').write('{number}')",
            f"os.path.exists({name!r}) and os.remove({name!r})",
            f"os.path.exists({name!r}) and os.rename({name!r}, {fresh!r})",
            f"subprocess.run(['git', 'add', '--all', {name!r}])",
            f"subprocess.run(['git', 'add', '.']); {COMMIT[:-12]})",
        )
    )


@pytest.mark.slow("eight changes, by git and programs")
@pytest.mark.parametrize("seed", range(3))
def test_what_has_changed_is_what_is_other_than_before(orch, programs, project, seed):
    """Whatever was changed, staged and committed before, and by whom."""
    install(programs, "claude", ONCE)
    spawn(orch, "claude", folder=project)
    draw = random.Random(seed)
    for number in range(8):
        before, head = contents(project), git(project, "rev-parse", "HEAD").strip()
        changes = [
            some_change(draw, sorted(before), 10 * number + n)
            for n in range(draw.randrange(4))
        ]
        prompt = "\n".join(["go", *(f"!{change}" for change in changes)])
        result = do(orch, prompt).result(PATIENCE)
        after = contents(project)
        names = {
            name for name in {*before, *after} if before.get(name) != after.get(name)
        }
        names |= {
            *git(project, "diff", "--name-only", "--no-renames", head, "HEAD").split()
        }
        assert result["changed"] == sorted(names), changes


def test_names_are_of_the_folder(orch, programs, project):
    """One below the top of the work tree names what is in it, and nothing else."""
    install(programs, "claude", ONCE)
    spawn(orch, "claude", folder=project / "src")
    code = "open('d.py', 'a').write('x'); open('../a.py', 'a').write('x'); "
    assert do(orch, f"go\n!{code}").result(PATIENCE)["changed"] == ["d.py"]
    assert do(orch, f"go\n!{code}{COMMIT}").result(PATIENCE)["changed"] == ["d.py"]


def test_a_repository_inside_is_one_name(
    orch, programs, project, tmp_path, monkeypatch
):
    """A submodule, or one that git does not know: whatever was changed in it before."""
    # To add one, git has a script.
    monkeypatch.setenv("PATH", f"{programs}:{os.defpath}")
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    (other / "x.py").write_text("1")
    git(other, "add", ".")
    git(other, "commit", "-qm", "x")
    add = ("submodule", "--quiet", "add", str(other), "lib")
    git(project, "-c", "protocol.file.allow=always", *add)
    shutil.copytree(other, project / "own")
    install(programs, "claude", ONCE)
    spawn(orch, "claude", folder=project)
    for name in ("lib", "own/", "lib"):
        code = f"open('{name}/x.py', 'a').write('2')"
        assert do(orch, f"go\n!{code}").result(PATIENCE)["changed"] == [name]
    assert do(orch, "x").result(PATIENCE)["changed"] == []


def test_without_git_nobody_knows(orch, programs, tmp_path):
    """None is not the same as no file; a first commit is seen."""
    install(programs, "claude", ONCE)
    folder = tmp_path / "plain"
    folder.mkdir()
    spawn(orch, "claude", folder=folder)
    change = "go\n!open('a', 'w').write('x')"
    assert do(orch, change).result(PATIENCE)["changed"] is None
    git(folder, "init", "-q")
    assert do(orch, change).result(PATIENCE)["changed"] == ["a"]
    commit = "subprocess.run(['git', 'add', '.']); subprocess.run(['git', '-c', "
    commit += "'user.name=x', '-c', 'user.email=x@y', 'commit', '-qm', 'x'])"
    assert do(orch, f"go\n!{commit}").result(PATIENCE)["changed"] == ["a"]


def test_two_with_one_scope_take_turns(orch, programs, project, tmp_path):
    """Two agents, one folder: what may write the same does not run together."""
    install(programs, "claude", ONCE)
    orch.agents.coding("claude", folder=project)
    orch.agents.spawn("code")
    orch.agents.spawn("code")
    wait = "go\n!exec('while not os.path.exists(\"go\"): time.sleep(0.01)')"
    first = do(orch, wait, id="first", writes=["src/**"])
    eventually((tmp_path / "notes").exists)
    second = do(orch, "x", id="second", writes=["src/d.py"])
    other = do(orch, "x", id="other", writes=["docs/**"])
    assert other.result(PATIENCE)["exit_code"] == 0
    assert "first" in str(orch.explain("second"))
    assert not second.done()
    (project / "go").touch()
    assert second.result(PATIENCE)["exit_code"] == first.result(PATIENCE)["exit_code"]


def test_a_program_is_held_to_what_is_said(orch, programs, project):
    """Options are those of `Program`; the result says what held it, or what did not."""
    install(programs, "claude", ONCE)
    types = ["code", "review"]
    held = {"network": False, "enforce": "if possible", "limits": {"written_mb": 1}}
    orch.agents.coding("claude", folder=project, types=types, **held)
    for type_ in types:
        orch.agents.spawn(type_)
    result = do(orch, "x").result(PATIENCE)
    assert result["enforced"]
    assert "written_mb" not in result["unenforced"]
    with pytest.raises(ProgramFailedError, match=r"MB written|too large"):
        do(orch, "x\n!open('big', 'w').write('x' * 3000000)").result(PATIENCE)
    # Who reviews may write nothing, where that can be held.
    change = do(orch, "x\n!open('a.py', 'w')", "review")
    if change.exception(PATIENCE) is None:
        assert "writes" in str(change.result()["unenforced"])
    else:
        assert (project / "a.py").read_text() == "1\n"


# -- what it has spent -----------------------------------------------------------------

REPORTS = {
    "claude": {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "result": "done",
        "total_cost_usd": 0.25,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 20,
            "cache_read_input_tokens": 30,
            "output_tokens": 40,
        },
        "permission_denials": [{"tool_name": "Bash", "tool_input": {}}],
    },
    "codex": [
        {"type": "thread.started", "thread_id": "t"},
        {"type": "item.completed", "item": {"type": "reasoning", "text": "hm"}},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "done"}},
        {
            "type": "turn.completed",
            "usage": {
                "input_tokens": 60,
                "cached_input_tokens": 50,
                "output_tokens": 40,
            },
        },
    ],
    "gemini": {
        "response": "done",
        "stats": {
            "models": {
                "pro": {"tokens": {"prompt": 50, "total": 70}},
                "flash": {"tokens": {"prompt": 20, "total": 30}},
            }
        },
    },
}


def reporting(report, code: int = 0) -> str:
    """A prompt by which a runner reports so, and ends."""
    messages = report if isinstance(report, list) else [report]
    text = "\n".join(map(json.dumps, messages))
    return f"go\n!print({text!r}); sys.exit({code})"


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_settles_the_budget(orch, programs, plain, name):
    """The result has the last words, and what was spent."""
    install(programs, name, ONCE)
    spawn(orch, name, folder=plain)
    spent = {"tokens": 100.0} | ({"usd": 0.25} if name == "claude" else {})
    with orch.budget("b", tokens=1000, usd=1) as budget:
        needs = {"tokens": 500, "usd": 0.5}
        result = do(orch, reporting(REPORTS[name]), resources=needs).result(PATIENCE)
    assert (result["output"], result["spent"]) == ("done", spent)
    assert result["refused"] == (["Bash"] if name == "claude" else [])
    # Of what it does not say, all that was reserved counts.
    assert budget.usage.spent == {"usd": 0.5, **spent}


def test_a_result_says_what_all_attempts_have_spent(orch, programs, project):
    """Also if they began anew with other agents: each has said its part."""
    install(programs, "claude", ONCE)
    spawn(orch, "claude", folder=project)
    report, flag = REPORTS["claude"], project.parent / "tried"
    failed = report | {"is_error": True, "result": "out of credit"}
    prompt = (
        f"go\n!again = os.path.exists({str(flag)!r}); open({str(flag)!r}, 'a').close()"
        f"\n!print(json.dumps({report!r} if again else {failed!r}))"
    )
    with orch.budget("b", tokens=1000, usd=1) as budget:
        needs = {"tokens": 500, "usd": 0.5}
        retry = RetryPolicy(max_attempts=2, base=0.01)
        result = do(orch, prompt, resources=needs, retry=retry).result(PATIENCE)
    assert result["spent"] == {"tokens": 200.0, "usd": 0.5}
    assert budget.usage.spent == {"tokens": 200, "usd": 0.5}


def test_what_a_failed_one_has_spent_counts(orch, programs, plain):
    """Whether it says so itself, or ends badly."""
    for name in REPORTS:
        install(programs, name, ONCE)
    failed = REPORTS["claude"] | {"is_error": True, "result": "out of credit"}
    turn = {"type": "turn.failed", "error": {"message": "no model"}}
    broken = {"error": {"type": "x", "message": "no key"}, "response": None}
    for name, report, words in (
        ("claude", failed, "claude: out of credit"),
        ("codex", [*REPORTS["codex"], turn], "codex: no model"),
        ("gemini", REPORTS["gemini"] | broken, "gemini: no key"),
    ):
        agent = spawn(orch, name, folder=plain)
        for code, error in ((0, AgentProgramError), (1, ProgramFailedError)):
            with orch.budget(f"{name}{code}", tokens=1000) as budget:
                task = do(orch, reporting(report, code), resources={"tokens": 500})
                failure = task.exception(PATIENCE)
            assert isinstance(failure, error)
            assert code or words in str(failure)
            # It is no line of Python where a runner has failed.
            assert ".py" not in str(orch.explain(task.task_id))
            assert budget.usage.spent == {"tokens": 100}
        orch.agents.terminate(agent.id)


NO_REPORTS = (
    "no JSON",
    5,
    {"type": "result", "usage": "many", "total_cost_usd": "much"},
    {"type": "result", "usage": {"input_tokens": -5, "output_tokens": 5}},
    {"type": "result", "usage": {"input_tokens": True, "output_tokens": 5}},
    {"type": "result", "usage": {"input_tokens": 5}},
    {"type": "result", "total_cost_usd": float("nan")},
    {"type": "other", "usage": {"input_tokens": 5, "output_tokens": 5}},
    {"type": "turn.completed", "usage": []},
    {"type": "turn.completed", "usage": {"input_tokens": 5}},
    {"type": "item.completed", "item": None},
    {"response": 5, "stats": {"models": {"x": None}}},
    {"stats": {"models": []}},
)


#: No report: it begins no line.
SEEMS = '{"type": "result", "result": "wrong"}'


def test_a_report_is_found_wherever_it_stands(orch, programs, plain):
    """It may be longer than what is kept of the output, and have others around it."""
    for name in REPORTS:
        install(programs, name, ONCE)
    long = REPORTS["claude"] | {"result": "x" * 70_000}
    broken = {"error": {"message": "no key"}, "response": "{\n{", "stats": {}}
    for name, code, words in (
        ("claude", f"print('See {SEEMS}'); print(json.dumps({long}))", ""),
        ("claude", f"print(json.dumps({long | {'is_error': True}}))", "xxx"),
        ("gemini", f"print('Hi {{'); print(json.dumps({broken}, indent=2))", "no key"),
    ):
        agent = spawn(orch, name, folder=plain)
        task = do(orch, f"go\n!{code}")
        error = task.exception(PATIENCE)
        assert isinstance(error, AgentProgramError) == bool(words)
        assert words in str(error)
        if not words:
            result = task.result()
            assert (result["spent"], result["output"][0]) == (
                {"tokens": 100, "usd": 0.25},
                "x",
            )
        orch.agents.terminate(agent.id)


def test_a_turn_that_does_not_say_what_it_spent_makes_the_sum_unknown(
    orch, programs, plain
):
    """All that was reserved counts, though another turn has said its part."""
    install(programs, "codex", ONCE)
    spawn(orch, "codex", folder=plain)
    report = [*REPORTS["codex"], {"type": "turn.completed", "usage": {}}]
    with orch.budget("b", tokens=1000) as budget:
        needs = {"tokens": 500}
        result = do(orch, reporting(report), resources=needs).result(PATIENCE)
    assert result["spent"] == {}
    assert budget.usage.spent == needs


@pytest.mark.slow("a program for each report")
@pytest.mark.parametrize("name", REPORTS)
def test_a_report_that_is_none_is_not_believed(orch, programs, plain, name):
    """Then all that was reserved counts as spent; the work is done all the same."""
    install(programs, name, ONCE)
    spawn(orch, name, folder=plain)
    needs = {"tokens": 500, "usd": 0.5}
    for number, report in enumerate(NO_REPORTS):
        with orch.budget(f"b{number}", tokens=1000, usd=1) as budget:
            result = do(orch, reporting(report), resources=needs).result(PATIENCE)
        assert (result["spent"], result["exit_code"]) == ({}, 0), report
        assert budget.usage.spent == needs


# -- a worktree for each task ----------------------------------------------------------

OFTEN_ONCE = pytest.mark.parametrize(
    "name",
    [
        "claude",
        pytest.param(
            "gemini", marks=pytest.mark.slow("the other's worktrees are made so, too")
        ),
    ],
)
OFTEN_KEPT = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            "claude", marks=pytest.mark.slow("the other's worktrees are made so, too")
        ),
        "gemini",
    ],
)


@OFTEN_ONCE
def test_each_task_may_have_a_worktree(orch, programs, project, name):
    """On a branch that begins at the present commit; the project stays as it is."""
    install(programs, "claude", ONCE)
    install(programs, "gemini", KEPT)
    spawn(orch, name, folder=project, worktree=True, reuse=name == "gemini")
    where = "" if name == "claude" else "cwd + '/' + "
    tasks = [
        do(orch, f"go\n!open({where}'a.py', 'w').write('{n}')", id=f"part/{n}")
        for n in (1, 2)
    ]
    for n, task in enumerate(tasks, 1):
        result = task.result(PATIENCE)
        assert result["changed"] == ["a.py"]
        assert result["branch"] == f"taskorch/part+{n}"
        tree = Path(result["folder"])
        assert tree == project.with_name("project.worktrees") / f"part+{n}"
        assert (tree / "a.py").read_text() == str(n)
        # What nobody had committed is not there.
        assert (tree / "b.py").read_text() == "1\n"
        assert git(tree, "rev-parse", "HEAD") == git(project, "rev-parse", "HEAD")
    assert (project / "a.py").read_text() == "1\n"


def test_a_later_attempt_goes_on_in_its_worktree(orch, programs, project):
    """What the one before it has left is there, also if the folder is gone."""
    install(programs, "claude", ONCE)
    spawn(orch, "claude", folder=project / "src", worktree=True)
    code = "open('d.py', 'a').write('x'); sys.exit(open('d.py').read().count('x') < 2)"
    retry = RetryPolicy(max_attempts=2, base=0.01)
    result = do(orch, f"go\n!{code}", id="t", retry=retry).result(PATIENCE)
    assert (Path(result["folder"]) / "d.py").read_text() == "1\nxx"
    assert (result["changed"], Path(result["folder"]).name) == (["d.py"], "src")


ENDS = {
    "fails": "sys.exit(1)",
    "is killed": "os.kill(os.getpid(), 9)",
    "is out of time": "time.sleep(60)",
}


@pytest.mark.parametrize(
    ("how", "worktree"),
    [("fails", True), ("is killed", False), ("is out of time", True)],
)
def test_what_has_changed_is_what_all_attempts_have(
    orch, programs, project, how, worktree
):
    install(programs, "claude", f"import time\n{ONCE}")
    spawn(orch, "claude", folder=project, worktree=worktree)
    code = "n = sum('try' in name for name in os.listdir('.')); "
    code += f"open(f'try{{n}}', 'w').close(); n or {ENDS[how]}"
    retry = RetryPolicy(max_attempts=2, base=0.01)
    limit = 1 if how == "is out of time" else None
    task = do(orch, f"go\n!{code}", id="t", retry=retry, timeout=limit)
    assert task.result(PATIENCE)["changed"] == ["try0", "try1"]
    again = orch.rerun_task("t")
    if not worktree:
        # That is another task: what was there before is not its own.
        assert again.result(PATIENCE)["changed"] == ["try2"]


@pytest.mark.parametrize(
    "worktree",
    [
        pytest.param(True, marks=pytest.mark.slow("the same is kept for a folder")),
        False,
    ],
)
def test_what_has_changed_is_told_by_the_next_incarnation_too(
    programs, project, tmp_path, worktree
):
    install(programs, "claude", f"import time\n{ONCE}")
    code = "n = sum('try' in name for name in os.listdir('.')); "
    code += "open(f'try{n}', 'w').close(); n or time.sleep(60)"
    options = {"journal": tmp_path / "runs.db", "unknown_capability": "wait"}
    folder = project.with_name("project.worktrees") / "t" if worktree else project
    for incarnation in (1, 2):
        with TaskOrchestrator(grace=1, **options) as orch:
            spawn(orch, "claude", folder=project, worktree=worktree)
            task = do(orch, f"go\n!{code}", id="t", idempotent=True)
            if incarnation == 1:
                eventually((folder / "try0").exists)
                orch.stop(drain=False)
            else:
                assert task.result(PATIENCE)["changed"] == ["try0", "try1"]


def test_of_what_nobody_has_kept_nothing_is_told(orch, programs, project):
    """An attempt has begun, and how all was before it is not known any more."""
    install(programs, "claude", ONCE)
    spawn(orch, "claude", folder=project)
    kept = project / ".git" / "taskorch" / "t.begun"
    code = f"os.path.exists({str(kept)!r}) and (os.remove({str(kept)!r}), sys.exit(1))"
    retry = RetryPolicy(max_attempts=2, base=0.01)
    result = do(orch, f"go\n!{code}", id="t", retry=retry).result(PATIENCE)
    assert result["changed"] is None


def test_a_folder_that_is_gone_is_made_again(orch, programs, project, tmp_path):
    """Whoever has removed it, and with what was committed in it."""
    install(programs, "claude", ONCE)
    spawn(orch, "claude", folder=project, worktree=True)
    once = f"os.path.exists({str(tmp_path / 'was')!r}) or "
    once += f"(open({str(tmp_path / 'was')!r}, 'w'), open('a.py', 'w').write('2'), "
    once += f"{COMMIT}, __import__('shutil').rmtree(os.getcwd()), sys.exit(1))"
    retry = RetryPolicy(max_attempts=2, base=0.01)
    result = do(orch, f"go\n!{once}", id="t", retry=retry).result(PATIENCE)
    tree = Path(result["folder"])
    assert (result["changed"], (tree / "a.py").read_text()) == (["a.py"], "2")
    assert git(tree, "status", "--short") == ""


def test_no_attempt_works_in_what_is_no_worktree_any_more(orch, programs, project):
    """Else it would work in another repository, or in none."""
    install(programs, "claude", ONCE)
    spawn(orch, "claude", folder=project, worktree=True)
    code = "os.remove('.git'); sys.exit(1)"
    retry = RetryPolicy(max_attempts=2, base=0.01)
    with pytest.raises(InvalidTaskError, match="t is there, and no worktree any more"):
        do(orch, f"go\n!{code}", id="t", retry=retry).result(PATIENCE)
    assert (project.with_name("project.worktrees") / "t" / "a.py").exists()


def test_the_branch_is_the_one_where_the_work_is(orch, programs, project):
    """Also where the runner has left its own: what is merged is what it has done."""
    install(programs, "claude", ONCE)
    spawn(orch, "claude", folder=project, worktree=True)
    for n, words in enumerate((["checkout", "-qb", "fix"], ["checkout", "--detach"])):
        code = f"subprocess.run({['git', *words]}); open('a.py', 'w').write('{n}'); "
        result = do(orch, f"go\n!{code}{COMMIT}", id=f"t{n}").result(PATIENCE)
        assert result["branch"].startswith("taskorch") is False
        assert git(project, "show", f"{result['branch']}:a.py") == str(n)


#: Stands for a filter of git: the first time, it kills the git that makes the worktree.
KILLS = """
import os, sys
def of(pid):
    name, _, rest = open(f"/proc/{pid}/stat").read().partition("(")[2].rpartition(")")
    return name, int(rest.split()[1])
text = sys.stdin.read()
try:
    os.close(os.open(sys.argv[1], os.O_CREAT | os.O_EXCL))
except FileExistsError:
    print(text, end="")
else:
    if len(sys.argv) > 2:
        os.remove(os.environ["GIT_DIR"] + "/HEAD")
    pid, pids = os.getppid(), []
    while of(pid)[0] in ("git", "sh"):
        pids.append(pid)
        pid = of(pid)[1]
    for pid in reversed(pids):
        os.kill(pid, 9)
"""


@OFTEN_KEPT
def test_no_attempt_works_in_a_part_of_a_worktree(
    orch, programs, project, tmp_path, name
):
    """Git was killed while it made one: there is a whole one, or none."""
    install(programs, "claude", ONCE)
    install(programs, "gemini", KEPT)
    install(programs, "kills", KILLS)
    (project / ".gitattributes").write_text("c.py filter=kills\n")
    git(project, "add", ".gitattributes")
    git(project, "commit", "-qm", "x")
    # Also what git knows of it may be a part.
    kills = f"{programs / 'kills'} {tmp_path / 'was'}" + " all" * (name == "claude")
    git(project, "config", "filter.kills.smudge", kills)
    spawn(orch, name, folder=project, worktree=True, reuse=name == "gemini")
    retry = RetryPolicy(max_attempts=2, base=0.01)
    result = do(orch, "x", id="t", retry=retry).result(PATIENCE)
    assert (tmp_path / "was").exists()
    assert (result["changed"], result["branch"]) == ([], "taskorch/t")
    assert git(Path(result["folder"]), "status", "--short") == ""
    assert orch.status("t").attempts == 2
    # Git has no other record of it.
    assert git(project, "worktree", "list").count("project.worktrees") == 1


FLEET = """
import sys
from taskorch import RetryPolicy, Task, TaskOrchestrator
journal, project, name = sys.argv[1:]
with TaskOrchestrator(journal=journal) as orch:
    reuse = name == "gemini"
    orch.agents.coding(name, folder=project, worktree=True, reuse=reuse)
    orch.agents.spawn("code")
    task = Task("code", "go", id="t", requires=["code"])
    print(orch.submit_task(task).result(60)["branch"])
"""


@pytest.mark.slow("kills while git works")
@pytest.mark.parametrize("name", ["claude", "gemini"])
def test_git_is_not_killed_with_the_orchestrator(programs, project, tmp_path, name):
    """Else it would leave locks. The next incarnation waits until it has done."""
    install(programs, "claude", ONCE)
    install(programs, "gemini", KEPT)
    hooks, said, go = project / ".git/hooks", tmp_path / "said", tmp_path / "go"
    hooks.mkdir(exist_ok=True)
    install(
        hooks,
        "post-checkout",
        "import os, sys, time\n"
        f"os.write(os.open({str(said)!r}, {os.O_CREAT | os.O_APPEND | os.O_WRONLY}), "
        "b'begins %d\\n' % os.getpid())\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        f"open({str(said)!r}, 'a').write('ends\\n')\n",
    )
    arguments = [str(tmp_path / "j.db"), str(project), name]
    program = [sys.executable, "-c", FLEET, *arguments]
    first = subprocess.Popen(program, start_new_session=True)
    eventually(lambda: said.exists() and said.read_text().endswith("\n"))
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(PATIENCE)
    second = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    mark = project / ".git/taskorch/t"
    try:
        # Its handler is in a process of its own, if the runner is kept.
        eventually(lambda: len(having_open(mark.with_name(".lock"))) == 3)
        assert "not made yet" in mark.read_text()
        assert is_alive(int(said.read_text().split()[1]))
        go.touch()
        assert second.communicate(timeout=PATIENCE)[0] == "taskorch/t\n"
    finally:
        go.touch()
        second.kill()
        second.wait()
    # One after the other.
    assert re.fullmatch(r"(begins \d+\nends\n){2}", said.read_text())
    tree = project.with_name("project.worktrees") / "t"
    assert git(tree, "status", "--short") == ""


def having_open(file: Path) -> set[str]:
    """The processes that have the file open."""
    ids = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if link.readlink() == file:
                ids.add(link.parts[2])
    return ids


@pytest.mark.slow("twelve worktrees at once")
def test_many_begin_at_once(orch, programs, project):
    """No lock of git is in the way: one that somebody left, or that of another task."""
    install(programs, "claude", ONCE)
    (project / ".git/config.lock").touch()
    (project / ".git/index.lock").touch()
    orch.agents.coding("claude", folder=project, worktree=True)
    for _ in range(6):
        orch.agents.spawn("code")
    code = "open('new', 'a').write('x'); sys.exit(os.stat('new').st_size < 2)"
    retry = RetryPolicy(max_attempts=2, base=0.01)
    tasks = [do(orch, f"go\n!{code}", id=f"t{n}", retry=retry) for n in range(12)]
    for n, task in enumerate(tasks):
        result = task.result(PATIENCE)
        assert (result["branch"], result["changed"]) == (f"taskorch/t{n}", ["new"])


@OFTEN_KEPT
def test_the_git_of_a_runner_looks_nowhere_else(
    orch, programs, project, monkeypatch, name
):
    """Somebody's hook has started us, whose variables are about another work tree."""
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.setenv(variable, "/no/such")
    install(programs, "claude", ONCE)
    install(
        programs,
        "gemini",
        KEPT.replace("import json, os", "import json, os, subprocess"),
    )
    spawn(orch, name, folder=project, worktree=True, reuse=name == "gemini")
    inside = "" if name == "claude" else "os.chdir(cwd); "
    code = f"{inside}open('a.py', 'w').write('2'); {COMMIT}"
    result = do(orch, f"go\n!{code}", id="t").result(PATIENCE)
    assert result["changed"] == ["a.py"]
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(variable)
    assert git(project, "show", "taskorch/t:a.py") == "2"


def test_a_worktree_that_cannot_be_made_is_said(orch, programs, project, tmp_path):
    """The branch is taken, or there is no work tree: nothing is run elsewhere."""
    install(programs, "claude", ONCE)
    agent = spawn(orch, "claude", folder=project, worktree=True)
    git(project, "branch", "taskorch/t")
    # Of another task of this id, perhaps, of some other day.
    git(project, "worktree", "add", "-b", "taskorch/u", "../project.worktrees/u")
    # Somebody's, with what nobody else has.
    mine = tmp_path / "project.worktrees" / "v" / "mine"
    mine.parent.mkdir()
    mine.touch()
    hook = project / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho it is not allowed >&2\nexit 1\n")
    hook.chmod(0o755)
    retry = RetryPolicy(max_attempts=3, base=0.01)
    for name, words in (
        ("t", "taskorch/t is there, and not its own: .* give the task another id"),
        ("u", "taskorch/u is there, and not its own"),
        ("v", "project.worktrees/v is there: move it"),
        ("w", "it is not allowed"),
    ):
        # Nor does a later attempt find it otherwise.
        with pytest.raises(InvalidTaskError, match=f"cannot be made: .*{words}"):
            do(orch, "x", id=name, retry=retry).result(PATIENCE)
    assert mine.exists()
    orch.agents.terminate(agent.id)
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    for folder, words in (
        (tmp_path, "is in no work tree"),
        (empty, "no commit yet.*: make one"),
    ):
        agent = spawn(orch, "claude", folder=folder, worktree=True)
        with pytest.raises(InvalidTaskError, match=words):
            do(orch, "x").result(PATIENCE)
        orch.agents.terminate(agent.id)
    assert not (tmp_path / "notes").exists()


@OFTEN_ONCE
def test_no_attempt_works_in_the_worktree_of_another_task(
    orch, programs, project, tmp_path, name
):
    """Nor in that of another program, or an earlier day, whatever a retry finds there."""
    install(programs, "claude", ONCE)
    install(programs, "gemini", KEPT)
    spawn(orch, name, folder=project, worktree=True, reuse=name == "gemini")
    retry = RetryPolicy(max_attempts=3, base=0.01)
    names = {"a/b": "a+b", "a-b": "a-b", "a.b": "a=b", "A-b": "a-b,1"}
    for task_id, branch in names.items():
        result = do(orch, "x", id=task_id, retry=retry).result(PATIENCE)
        assert (result["changed"], result["branch"]) == ([], f"taskorch/{branch}")
    # As this program would leave it behind from another day.
    mark = project / ".git/taskorch/c"
    mark.write_text(mark.with_name("a+b").read_text().replace("a/b", "c"))
    git(project, "worktree", "add", "-b", "taskorch/c", "../project.worktrees/c")
    error = do(orch, "x", id="c", retry=retry).exception(PATIENCE)
    assert "taskorch/c is there, and not its own" in str(error)
    # Of a program that runs: it may go on.
    with TaskOrchestrator() as other:
        spawn(other, name, folder=project, worktree=True, reuse=name == "gemini")
        do(other, "x", id="d").result(PATIENCE)
        before = mark.with_name("d").read_bytes()
        error = do(orch, "x", id="d", retry=retry).exception(PATIENCE)
    assert "taskorch/d is there, and not its own" in str(error)
    assert mark.with_name("d").read_bytes() == before


# -- one runner for many tasks ---------------------------------------------------------


@pytest.fixture
def kept(orch, programs, plain):
    """A worker that keeps its runner."""
    install(programs, "gemini", KEPT)
    return spawn(orch, "gemini", folder=plain, reuse=True)


def test_many_tasks_are_one_process(orch, kept, plain, tmp_path):
    """Each is a session of its own: none sees what was said in another."""
    prompt = "!say(session, f'{session} {len(sessions)} '); say(session, 'done')"
    tasks = [do(orch, f"go {n}\n{prompt}") for n in range(5)]
    said = [task.result(PATIENCE)["output"] for task in tasks]
    assert said == [f"s{n} {n + 1} done" for n in range(5)]
    assert len(starts(tmp_path)) == 1
    assert '["--acp"]' in (tmp_path / "starts").read_text()
    change = "!open(os.path.join(cwd, 'a.py'), 'w')"
    result = do(orch, f"go\n{change}", writes=["a.py"]).result(PATIENCE)
    assert (result["changed"], result["folder"]) == (None, str(plain))
    prompt = "!say(session, text)"
    told = do(orch, f"go\n{prompt}", writes=["a.py"]).result(PATIENCE)["output"]
    assert told.startswith("You change the code")
    assert told.endswith("Change no file but these: a.py\n")


def test_a_task_whose_runner_is_killed_runs_again(orch, kept, tmp_path, plain):
    """Or waits for a decision, if it must not run twice."""
    once = "go\n!os.path.exists('was') or (open('was', 'w'), os.kill(os.getpid(), 9))"
    assert do(orch, once).result(PATIENCE)["runner"] == "gemini"
    assert len(starts(tmp_path)) == 2
    (plain / "was").unlink()
    held = do(orch, once, idempotent=False)
    eventually(lambda: orch.status(held.task_id).state is TaskState.BLOCKED)
    assert (plain / "was").exists()
    orch.decide(held.task_id, "retry")
    assert held.result(PATIENCE)["runner"] == "gemini"


def test_a_runner_is_killed_from_outside(orch, kept, tmp_path, plain):
    """In the middle of its work, by somebody else: another one does it again."""
    wait = "go\n!exec('while not os.path.exists(\"go\"): time.sleep(0.01)')"
    task = do(orch, wait)
    eventually(lambda: starts(tmp_path))
    eventually(lambda: orch.status(task.task_id).state is TaskState.RUNNING)
    os.kill(starts(tmp_path)[0], signal.SIGKILL)
    (plain / "go").touch()
    assert task.result(PATIENCE)["runner"] == "gemini"


def test_one_that_ends_between_tasks_is_started_again(orch, kept, tmp_path):
    assert do(orch, "go").result(PATIENCE)["runner"] == "gemini"
    (pid,) = starts(tmp_path)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid))
    assert do(orch, "go").result(PATIENCE)["runner"] == "gemini"
    assert len(starts(tmp_path)) == 2


def test_one_that_hangs_is_killed_when_its_time_is_over(orch, kept, tmp_path):
    """With all that belongs to it; the next task has a new one."""
    # It has begun before there is little time.
    assert do(orch, "go").result(PATIENCE)["runner"] == "gemini"
    hangs = do(orch, "go\n!time.sleep(600)", timeout=2)
    assert isinstance(hangs.exception(PATIENCE), TaskTimeoutError)
    assert do(orch, "go").result(PATIENCE)["runner"] == "gemini"
    eventually(lambda: not is_alive(starts(tmp_path)[0]))


def test_what_is_no_end_is_an_error(orch, kept):
    """The worker does the next task all the same."""
    for code, words in (
        ("print('Loading…', flush=True)", "gemini said 'Loading.*no message of the"),
        ("print('[5]', flush=True)", r"gemini said '\[5\]"),
        ("why = 'refusal'", "stopped before the end: refusal"),
        ("why = None", "stopped before the end: None"),
        (
            "send(id=number, error={'code': -1, 'message': 'no quota'})",
            "session/prompt: no quota",
        ),
    ):
        with pytest.raises(AgentProgramError, match=words):
            do(orch, f"go\n!{code}").result(PATIENCE)
        assert do(orch, "go").result(PATIENCE)["runner"] == "gemini"


def test_what_it_says_late_is_of_no_other_task(orch, kept):
    """Neither words nor answers of the session before."""
    late = "go\n!late, after = session, \"say(session, 'late'); after = ''\""
    do(orch, late).result(PATIENCE)
    said = "go\n!say(late, 'old'); say(session, 'new'); send(id=1, result={})"
    assert do(orch, said).result(PATIENCE)["output"] == "new"


def test_what_a_runner_has_started_ends_with_it(orch, kept, plain, tmp_path):
    """An answer that is none kills both, before the next task begins."""
    code = "import subprocess, sys; child = subprocess.Popen(['sleep', '600']); "
    code += "print(child.pid, flush=True)"
    (tmp_path / "bin" / "sleep").symlink_to(
        str(shutil.which("sleep", path="/bin:/usr/bin"))
    )
    with pytest.raises(AgentProgramError, match=r"said '[0-9]+") as error:
        do(orch, f"go\n!{code}").result(PATIENCE)
    (pid,) = re.findall(r"said '([0-9]+)", str(error.value))
    assert do(orch, "go").result(PATIENCE)["runner"] == "gemini"
    eventually(lambda: not is_alive(int(pid)))
    assert orch.agents.list()[-1].status != "failed"


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("VERSION", "speaks version 2"),
        ("LOGIN", "session/new: log in first"),
        ("NAMELESS", "named no session"),
    ],
)
def test_a_runner_that_cannot_begin(
    orch, programs, plain, monkeypatch, variable, words
):
    monkeypatch.setenv(variable, "2")
    install(programs, "gemini", KEPT)
    spawn(orch, "gemini", folder=plain, reuse=True)
    for _ in range(2):
        with pytest.raises(AgentProgramError, match=words):
            do(orch, "go").result(PATIENCE)


def test_it_may_change_files_and_no_more(orch, programs, plain):
    """Who reviews may look only. What was refused stands in the result."""
    install(programs, "goose", KEPT)
    orch.agents.coding("goose", folder=plain, reuse=True)
    asks = "go\n" + "\n".join(
        f"!say(session, permit(session, {kind!r}, '{kind} it'{before}) + ' ')"
        for kind, before in (
            ("read", ""),
            ("edit", ""),
            ("edit", ", again=1"),
            ("execute", ", again=1"),
            ("fetch", ""),
        )
    )
    for type_, output, refused in (
        (
            "code",
            "allow-once allow-once allow-once reject-once reject-once ",
            ["execute it", "fetch it"],
        ),
        (
            "review",
            "allow-once reject-once reject-once reject-once reject-once ",
            ["edit it", "edit it", "execute it", "fetch it"],
        ),
    ):
        orch.agents.spawn(type_)
        result = do(orch, asks, type_).result(PATIENCE)
        assert (result["output"], result["refused"]) == (output, refused)
        # The next one has not been refused anything.
        assert do(orch, "go", type_).result(PATIENCE)["refused"] == []


def test_what_a_runner_asks_of_an_editor_is_not_offered(orch, kept):
    """It is told so at once, and does not wait for ever; its tools are the progress."""
    asks = (
        "go\n!send(id=7, method='fs/read_text_file', params={}); "
        "say(session, str(json.loads(sys.stdin.readline())['error']['code'])); "
        "update(session, sessionUpdate='tool_call', toolCallId='c', title='reads')"
    )
    task = do(orch, asks)
    assert task.result(PATIENCE)["output"] == "-32601"
    assert orch.status(task.task_id).progress == "reads"


def test_a_command_of_ones_own_may_be_kept(orch, programs, plain, tmp_path):
    install(programs, "mine", KEPT)
    command = ["mine", "serve"]
    spawn(orch, command, folder=plain, reuse=True, arguments=["-v"])
    tasks = [do(orch, f"go {n}") for n in range(3)]
    assert {task.result(PATIENCE)["runner"] for task in tasks} == {"mine"}
    assert len(starts(tmp_path)) == 1
    assert '["serve", "-v"]' in (tmp_path / "starts").read_text()


def test_a_kept_runner_ends_with_its_worker(orch, kept, tmp_path):
    do(orch, "go").result(PATIENCE)
    orch.agents.terminate(kept.id)
    eventually(lambda: not is_alive(starts(tmp_path)[0]))
