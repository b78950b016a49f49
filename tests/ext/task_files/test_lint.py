"""What is wrong with task files is told at once, with its place."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import assume, given, strategies as st
from tests.ext.task_files.tools import cli, write

from taskorch.errors import InvalidTaskError
from taskorch.ext.task_files import Workspace
from taskorch.kit.located import Located, plain
from taskorch.kit.yaml_text import read_one


def problems(root) -> list[str]:
    return [str(problem) for problem in Workspace(root).lint()]


def only(root) -> str:
    (problem,) = problems(root)
    return problem


def test_a_task_file_says_how_its_task_is_run(tmp_path):
    head = """
title: whatever else stands here is nobody's concern
dependencies: [a/one]
inputs:
  - a/one/data.json
outputs: report.md
agent: reviewer
command: sh -c 'echo "$1"' sh {task_file}
timeout: 90m
estimate: 2
priority: high
capability: review
gate: [docs/done]
resources: {cpu: 2, memory_gb: 1.5}
"""
    agents = "agents: {reviewer: {command: r, capabilities: [review]}}"
    write(
        tmp_path,
        {"workspace.yaml": agents, "tasks/b/two.md": head, "tasks/a/one.md": "x: 1"},
    )
    workspace = Workspace(tmp_path)

    assert workspace.lint() == []
    task = workspace._plan.tasks["b/two"]
    assert (task.phase, task.path) == ("b", "tasks/b/two.md")
    assert (task.dependencies, task.inputs) == (("a/one",), ("a/one/data.json",))
    assert (task.outputs, task.gate) == (("report.md",), ("docs/done",))
    assert task.command == ("sh", "-c", 'echo "$1"', "sh", "{task_file}")
    assert (task.timeout, task.estimate, task.priority) == (5400.0, 7200.0, 60)
    assert (task.agent, task.capability) == ("reviewer", ("review",))
    assert (task.cpu, task.memory_mb) == (2.0, 1536.0)


def test_every_problem_of_all_files_is_told_at_once(tmp_path):
    write(
        tmp_path,
        {
            "workspace.yaml": "phases:\n  analysis: {limit: 0}\nagnets: {}\n",
            "tasks/01-a/one.md": "dependancies:\n- 01-a/two\ntimeout: soon",
            "tasks/01-a/two.md": "outputs: [a.txt,\n  ../b.txt, /c.txt]",
            "tasks/02-b/three.md": "a: &x 1\nb: *x\nc: !!python/object:os.system 1\nc: 2",
        },
    )

    code, out, _ = cli("lint", tmp_path)

    assert code == 1
    assert out.splitlines() == [
        "workspace.yaml:2:21: phases.analysis.limit: a whole number from 1 is needed, not 0",
        "workspace.yaml:3:1: there is no 'agnets' here; did you mean 'agents'?",
        (
            "tasks/01-a/one.md:2:1: there is no 'dependancies' here; "
            "did you mean 'dependencies'?"
        ),
        (
            "tasks/01-a/one.md:4:10: timeout: hours, or a text such as "
            "'90s', '30m' or '2h', up to a year, is needed, not 'soon'"
        ),
        (
            "tasks/01-a/two.md:3:3: outputs[1]: '../b.txt' leads out of its folder "
            "(outputs are in the folder of the task)"
        ),
        (
            "tasks/01-a/two.md:3:13: outputs[2]: '/c.txt' is no path inside its folder "
            "(outputs are in the folder of the task)"
        ),
        "tasks/02-b/three.md:3:4: an alias (*x) stands for other text: write that out",
        (
            "tasks/02-b/three.md:4:4: there is no tag "
            "'tag:yaml.org,2002:python/object:os.system' here"
        ),
        "tasks/02-b/three.md:5:1: 'c' stands here twice",
        "3 task files, 9 problems",
    ]


def test_files_without_problems_say_so(tmp_path):
    write(tmp_path, {"tasks/a/one.md": "outputs: []", "tasks/a/README.md": "no task"})
    write(tmp_path, {"tasks/TEMPLATE.md": "none", "tasks/a/.hidden.md": "none"})

    assert cli("lint", tmp_path) == (0, "1 task file, no problems\n", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"# Title\n", "1:1: there is no frontmatter"),
        (b"", "1:1: there is no frontmatter"),
        (b"\n---\na: 1\n---\n", "which must be the first one"),
        (b"---\na: 1\n", "1:1: the frontmatter that begins here has no end"),
        (b"---\n" + b"a: 1\n" * 20_000, "has no end: add a line '---' within 65,536"),
        (b"---\na: [1\n---\n", "2:4: this is no YAML: while parsing a flow sequence"),
        (b"---\n- a\n---\n", "2:1: a mapping is needed, not a list"),
        (b"---\na: 1\nb: \xff\n---\n", "3:1: the frontmatter is no UTF-8"),
        ("---\na: 1\n---\n".encode("utf-16"), "1:1: the file is in UTF-16"),
        (b"---\na: \x01\n---\n", "this is no YAML: "),
        (b"---\na: " + b"[" * 300 + b"]" * 300 + b"\n---\n", "nested more than 100"),
        (b"---\n? [a]\n: 1\n---\n", "2:3: a name is text"),
        (b"---\ntimeout: " + b"9" * 5000 + b"\n---\n", "too many digits"),
        (
            b"---\noutputs: [1]\n---\n",
            "2:11: outputs[0]: a text is needed, not 1: put it in quotes",
        ),
        (b"---\noutputs: {a: 1}\n---\n", "a list of files is needed, not a mapping"),
        (b"---\noutputs: [a/]\n---\n", "is a folder, and a file is needed"),
        (b"---\noutputs: [a, ./a]\n---\n", "2:14: outputs: './a' stands here twice"),
        (b'---\noutputs: ["a\\x07"]\n---\n', "cannot be printed"),
        (b'---\noutputs: [""]\n---\n', "outputs[0]: a text is needed, not ''"),
        (b"---\ncommand: 'a \"b'\n---\n", "this cannot be split as a shell does"),
        (b"---\ncommand: []\n---\n", "the program to run is missing"),
        (b"---\npriority: urgent\n---\n", "one of critical, high, medium, normal, low"),
        (b"---\nresources: 3\n---\n", "resources: a mapping is needed, not 3"),
        (b"---\nresources: {cpu: 9}\n---\n", "2:12: 9 CPUs: one agent has 4"),
        (b"---\nresources: {memory_gb: 9}\n---\n", "9 GB of memory: one agent has 8"),
        (
            b"---\nresources: {cpu: -1}\n---\n",
            "resources.cpu: a number from 0 is needed, not -1",
        ),
        (b"---\nresources: {gpu: 1}\n---\n", "there is no 'gpu' here; there are cpu,"),
        (b"---\nresources: {cpus: 9}\n---\n", "9 CPUs: one agent has 4"),
        (b"---\nresources: {memory: 9}\n---\n", "did you mean 'memory_mb'"),
        (
            b"---\nresources: {cpu: 1, cores: 2}\n---\n",
            "resources.cores (cpu) is 2 here, and 1 at tasks/a/one.md:2:18",
        ),
        (b"---\nagent: bob\n---\n", "2:8: there is no agent 'bob', only 'agent'"),
        (b"---\ncapability: fly\n---\n", "2:13: no agent in workspace.yaml has the"),
        (b"---\ntimeout: 0\n---\n", "timeout: hours, or a text"),
    ],
)
def test_a_file_that_cannot_be_used_has_a_clear_answer(tmp_path, text, told):
    write(tmp_path, {"tasks/a/one.md": text})

    workspace = Workspace(tmp_path)

    (problem,) = map(str, workspace.lint())
    assert problem.startswith("tasks/a/one.md:"), problem
    assert told in problem
    assert workspace._plan.tasks == {}
    assert workspace._plan.ids == ["a/one"]


@pytest.mark.parametrize("has_libyaml", [True, False])
def test_an_escape_that_is_no_character_is_told_with_its_place(
    tmp_path, monkeypatch, has_libyaml
):
    if not has_libyaml:
        monkeypatch.delattr("yaml.CSafeLoader", raising=False)
    write(tmp_path, {"tasks/a/one.md": b'---\nagent: "\\UFFFFFFFF"\n---\n'})

    (problem,) = map(str, Workspace(tmp_path).lint())

    assert problem.startswith("tasks/a/one.md:2:")
    assert "character" in problem


@pytest.mark.parametrize(
    "text",
    [
        b"---\r\noutputs:\r\n- a\r\n---\r\n# One\r\n",
        b"\xef\xbb\xbf---\noutputs: [a]\n---\n",
        b"---  \noutputs: a\n...\n",
        b"---\noutputs: [a]\n---",
    ],
)
def test_line_ends_and_marks_of_other_systems_are_welcome(tmp_path, text):
    write(tmp_path, {"tasks/a/one.md": text})

    workspace = Workspace(tmp_path)

    assert workspace.lint() == []
    assert workspace._plan.tasks["a/one"].outputs == ("a",)


def test_aliases_cannot_explode(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    write(tmp_path, {"tasks/a/one.md": "\n".join(lines)})

    assert all("an alias" in problem for problem in problems(tmp_path))


def test_links_may_not_lead_outside(tmp_path):
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    write(outside, {"secret.md": "outputs: [a]"})
    write(root, {"tasks/a/one.md": "outputs: [a]"})
    (root / "tasks/a/two.md").symlink_to(outside / "secret.md")
    (root / "tasks/a/three.md").symlink_to("one.md")
    (root / "tasks/a/gone.md").symlink_to("nothing")
    (root / "tasks/b").symlink_to(outside)

    told = problems(root)

    assert told == [
        "tasks/a/gone.md:1:1: this file cannot be read: No such file or directory",
        "tasks/a/two.md:1:1: this link leads out of the workspace: copy the file here",
        "tasks/b:1:1: a link to a folder is not followed: copy its files here",
    ]
    assert list(Workspace(root)._plan.tasks) == ["a/one", "a/three"]


def test_two_files_are_not_one_task(tmp_path):
    write(tmp_path, {"tasks/a/one.md": "x: 1", "tasks/a/ONE.md": "x: 1"})

    assert "but for capital letters this is 'a/ONE' too" in only(tmp_path)
    assert Workspace(tmp_path)._plan.tasks == {}


def test_ids_are_safe_and_do_not_take_names_of_ours(tmp_path):
    write(tmp_path, {"tasks/a/o ne.md": "x: 1", "tasks/b.json/one.md": "x: 1"})
    (tmp_path / "tasks/a/folder.md").mkdir()

    assert [problem.partition(" ")[0] for problem in problems(tmp_path)] == [
        "tasks/a/o",
        "tasks/b.json:1:1:",
    ]


def test_another_word_for_dependencies_never_lets_a_task_begin_too_early(runs):
    words = [
        *("depends", "dependsOn", "depends-on", "needs", "blocked_by", "requires"),
        *("after", "prerequisites", "waits_for", "predecessors", "run_after", "deps"),
    ]
    waits = {f"a{n}": f"{word}: [b]" for n, word in enumerate(words)}
    begins = {f"c{n}": f"{word}: []" for n, word in enumerate(words)}
    runs.write(b="x: 1", **waits, **begins)

    code, printed = runs.run()

    assert code == 1
    assert sorted(runs.began()) == sorted(["b", *begins])
    for number, word in enumerate(words):
        text = f"there is no {word!r} here; did you mean 'dependencies'?"
        assert f"tasks/a{number}.md:2:1: {text}" in printed


def test_files_with_other_endings_are_named(tmp_path):
    write(tmp_path, {"tasks/A.MD": "x: 1", "tasks/b.markdown": "---\n---\n"})
    text = "this is no task file: the name of one ends with .md"
    assert problems(tmp_path) == [
        f"tasks/A.MD:1:1: {text}",
        f"tasks/b.markdown:1:1: {text}",
    ]


def test_fields_that_do_not_act_are_named(tmp_path):
    write(
        tmp_path,
        {
            "tasks/a.md": "x: {y: [b.md]}\nmax_retries: 3\ncpus: 2\nlabels: [a, z]",
            "tasks/b.md": "title: b\nassignee: c",
        },
    )
    workspace = Workspace(tmp_path, tell=None)

    assert [str(problem) for problem in workspace.lint()] == [
        (
            "tasks/a.md:2:1: x names b, and is not looked at: what a task waits for stands "
            "under `dependencies`"
        ),
        "tasks/a.md:3:1: there is no 'max_retries' here; did you mean 'retries'?",
        "tasks/a.md:4:1: there is no 'cpus' here; did you mean 'resources'?",
    ]
    # They may stand there: what is there acts as far as it says.
    assert not any(problem.stops for problem in workspace.lint())


def test_edges_follow_from_what_is_named_and_from_files(tmp_path):
    write(
        tmp_path,
        {
            "tasks/a/one.md": "outputs: [x.json]",
            "tasks/a/two.md": "inputs: [a/one/x.json, a/one/y.json, other/z.json]",
            "tasks/b/three.md": "dependencies: [a/two, a/tow, a/two]",
            "tasks/four.md": "dependencies: [b/three]",
        },
    )

    plan = Workspace(tmp_path)._plan

    assert plan.phases == {"": ("four",), "a": ("a/one", "a/two"), "b": ("b/three",)}
    assert plan.after["a/two"] == ("a/one",)
    assert plan.after["b/three"] == ("a/two", "a/tow")
    assert [str(problem) for problem in plan.problems] == [
        "tasks/a/two.md:2:24: 'y.json' is none of the outputs of a/one: x.json",
        "tasks/b/three.md:2:23: there is no task 'a/tow'; did you mean 'a/two'?",
    ]
    assert len(plan.tasks) == 4  # these are no reason not to run


def test_what_waits_for_itself_is_named(tmp_path):
    write(
        tmp_path,
        {
            "tasks/a/one.md": "dependencies: [a/three]\noutputs: [x]",
            "tasks/a/two.md": "inputs: [a/one/x]",
            "tasks/a/three.md": "dependencies:\n- a/two",
            "tasks/a/self.md": "dependencies: [a/self]",
            "tasks/a/late.md": "dependencies: [b/four]",
            "tasks/b/four.md": "x: 1",
        },
    )

    told = problems(tmp_path)

    assert told[0].endswith("'b/four' is in a later phase, which waits for this one")
    assert "these tasks wait for each other: " in told[1]
    assert told[2].endswith("a task cannot wait for itself")
    assert len(told) == 3
    assert list(Workspace(tmp_path)._plan.tasks) == ["b/four"]


def test_only_what_changed_is_read_again(tmp_path):
    write(tmp_path, {"tasks/a/one.md": "x: 1", "tasks/a/two.md": "x: 1"})
    workspace = Workspace(tmp_path)
    first = workspace._plan
    assert workspace._plan is first

    write(tmp_path, {"tasks/a/two.md": "outputs: [a, b]"})
    second = workspace._plan
    (tmp_path / "tasks/a/one.md").unlink()

    assert second.tasks["a/one"] is first.tasks["a/one"]
    assert second.tasks["a/two"].outputs == ("a", "b")
    assert list(workspace._plan.tasks) == ["a/two"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("title: [x]", "1:8: title: a text is needed, not a list"),
        (
            "folders: {tasks: ../x}",
            "1:18: folders.tasks: one safe word is needed",
        ),
        ("folders: {tasks: a, workspace: a}", "must be two folders"),
        ("limits: {max_concurrent_agents: 0}", "a whole number from 1 is needed"),
        ("agents: {a b: {command: x}}", "the name of an agent is one safe word"),
        ("agents: {a: {capabilities: [x]}}", "agents: a has no command"),
        ("agents: {a: x}", "agents.a: a mapping is needed, not 'x'"),
        ('agent: "a \'b"', "cannot be split as a shell does"),
        ("stdin: 1", "stdin: true or false is needed, not 1"),
        ("phases: {analysys: {limit: 1}}", "did you mean 'analysis'?"),
        ("phases: [a]", "phases: a mapping is needed, not a list"),
        ("phases: {a: {gate: /x}}", "gate: '/x' is no path inside its folder"),
        ("a: 1\n---\nb: 2", "3:1: a second document begins here"),
        ("x: " + "a" * 300_000, "1:1: it has more than 262,144 bytes"),
        (b"\xff", "1:1: it is no UTF-8"),
    ],
)
def test_what_is_wrong_with_the_settings_is_told(tmp_path, text, told):
    write(tmp_path, {"workspace.yaml": text, "tasks/a.md": "x: 1"})

    assert any(told in problem for problem in problems(tmp_path)), problems(tmp_path)


def test_stdin_holds_for_an_agent_that_is_described_too(tmp_path):
    text = "agent: mine\nstdin: true\nagents: {mine: {command: cat}}"
    write(tmp_path, {"workspace.yaml": text, "tasks/a/one.md": "x: 1"})
    assert Workspace(tmp_path)._config.agent.stdin


@pytest.mark.parametrize(
    ("settings", "is_fed"),
    [
        ("agent: claude", True),
        ("agent: claude\nstdin: false", False),
        ("agent: goose\nstdin: true", True),
        ("agent: mine\nstdin: false\nagents: {mine: {command: x, stdin: true}}", False),
        ("agent: mine\nagents: {mine: {command: x, stdin: true}}", True),
        ("agent: claude\nagents: {claude: {limit: 1}}", True),
        ("agent: claude\nagents: {claude: {stdin: false}}", False),
        ("agent: codex\nagents: {codex: {command: x, stdin: false}}", False),
    ],
)
def test_whether_an_agent_is_fed_is_as_it_is_said_or_as_of_its_preset(
    runs, monkeypatch, settings, is_fed
):
    for name in ("claude", "codex", "goose", "x"):
        program = runs.root.parent / "bin" / name
        write(program.parent, {name: "#!/bin/sh\ncat"})
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    write(runs.root, {"workspace.yaml": settings, "tasks/a/one.md": "x: 1"})
    assert Workspace(runs.root, tell=None).run().is_complete
    log = (runs.root / "workspace/logs/a/one.log").read_text()
    assert log == ("# one\n" if is_fed else "")


def test_a_file_that_may_not_be_read_says_so(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    write(tmp_path, {"tasks/a/one.md": "x: 1", "workspace.yaml": "title: a"})
    (tmp_path / "tasks/a/one.md").chmod(0)
    (tmp_path / "workspace.yaml").chmod(0)

    assert [problem.partition(": ")[2] for problem in problems(tmp_path)] == [
        "this file cannot be read: Permission denied",
        "this file cannot be read: Permission denied",
    ]


def test_there_must_be_a_folder(tmp_path):
    with pytest.raises(InvalidTaskError, match="there is no folder"):
        Workspace(tmp_path / "none")
    code, _, err = cli("lint", tmp_path / "none")
    assert code == 2
    assert "taskorch workspace init makes one" in err
    assert "taskorch workspace init makes it" in only(tmp_path)


def test_the_help_is_there_without_what_a_command_needs():
    code = (
        "import sys; from taskorch.ext.command_line import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([n for n in ('yaml', 'taskorch.ext.task_files') "
        "if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert "run a folder of task files" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_without_pyyaml_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "taskorch.kit.yaml_text", raising=False)
    monkeypatch.delattr("taskorch.kit.yaml_text", raising=False)
    write(tmp_path, {"tasks/a/one.md": "x: 1"})

    code, _, err = cli("lint", tmp_path)

    assert code == 2
    assert "pip install 'taskorch[cli]'" in err


@given(st.text(max_size=200))
def test_whatever_stands_there_is_read_or_refused(text):
    node, faults = read_one(text, "a.md")

    assert faults or isinstance(node, Located)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_json_is_read_as_what_it_is(value):
    import json

    text = json.dumps(value)
    # YAML has no escapes for halves of characters, nor names that are so long.
    assume("\\u" not in text and len(text) < 1000)
    node, faults = read_one(text, "a.md")
    assert (plain(node), faults) == (value, [])
