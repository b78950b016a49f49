"""Budgets of task files: what programs spend, in all runs and by all runners."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, Started, eventually
from tests.ext.task_files.tools import cli, write

from taskorch.errors import InvalidTaskError
from taskorch.ext.task_files import Workspace

ROOT = Path(__file__).parents[3]
SETTINGS = """\
budgets:
  release: {total: {tokens: 100, eur: 2}}
  part: {total: {tokens: 50}, parent: release}
budget: release
phases: {b: {budget: part}}
"""


def says(tokens):
    """What an agent is to do that has spent so many tokens."""
    return f"./spend {tokens}"


def task(tokens, spent, *more):
    """A task file that reserves tokens, and spends some."""
    do = says(spent) if isinstance(spent, int | float) else spent
    return "|".join([f"resources: {{tokens: {tokens}}}", f"do: {do}", *more])


@pytest.fixture
def folder(runs):
    spend = 'echo "{\\"tokens\\": $1}" >"$TASKORCH_SPENT"'
    write(runs.root, {"workspace.yaml": SETTINGS, "spend": f"#!/bin/sh\n{spend}\n"})
    (runs.root / "spend").chmod(0o755)
    return runs


def spent(runs, name="release", what="tokens"):
    (usage,) = [u for u in Workspace(runs.root).budgets() if u.name == name]
    return usage.spent[what]


def test_what_programs_spend_is_told_of_each_and_in_all(folder):
    folder.write(
        a_1=task(20, 5), a_2=task(20, "true"), b_1=task(30, 40), c_1="do: true"
    )
    write(folder.root, {"tasks/d/1.md": "budget: part\ndo: true"})
    code, lines = folder.run()
    assert code == 0, lines
    assert any(line.startswith("Completed: a/1 (") for line in lines)
    assert "; spent 5 tokens)" in " ".join(lines)
    # a/2 has said nothing, and all that it reserved counts.
    assert folder.status("a/1")["spent"] == {"tokens": 5}
    assert folder.status("a/2")["spent"] == {"tokens": 20}
    assert folder.status("b/1")["spent"] == {"tokens": 40}
    assert "spent" not in folder.status("c/1")
    assert "Budget release: ok; 65 of 100 tokens spent, 35 left; " in " ".join(lines)
    assert lines[-1] == "All tasks complete!"
    _, page, _ = cli("status", folder.root)
    assert "Budget part (part of release): low; 40 of 50 tokens spent, 10 left" in page
    _, why, _ = cli("why", "b/1", folder.root)
    assert why.rstrip().endswith(", spent 40 tokens.")
    assert "ALERT: Budget part (part of release): low; 40 of 50 tokens" in "\n".join(
        lines
    )


@pytest.mark.parametrize(
    ("script", "counted"),
    [
        (f"{says(5)}; {says(6)}; exit 3", 11),
        (f"{says(25)}; exit 3", 25),
        (f"{says(5)}; kill -9 $$", 20),
        (f"{says(25)}; kill -9 $$", 25),
        ('echo five >"$TASKORCH_SPENT"', 20),
        (f"{says(5)}; sleep 600", 20),
    ],
)  # fmt: skip
def test_what_a_program_says_counts_or_all_that_it_reserved(folder, script, counted):
    folder.write(
        a_1=task(20, script, "timeout: 1s" if "sleep" in script else "timeout: 600s")
    )
    folder.run()
    assert spent(folder) == counted
    assert folder.status("a/1")["spent"] == {"tokens": counted}


def test_each_attempt_and_each_run_counts(folder):
    """Two attempts fail; a retry by hand, and the same again: all of it is spent."""
    folder.write(a_1=task(20, f"{says(5)}; exit 3", "retries: 1"))
    folder.run()
    assert spent(folder) == 10
    cli("retry", "a/1", folder.root)
    folder.write(a_1=task(20, 5))
    code, _ = folder.run()
    assert (code, spent(folder)) == (0, 15)
    assert folder.status("a/1")["spent"] == {"tokens": 15}
    # Its file is gone, and what it has spent is not.
    (folder.root / "tasks/a/1.md").unlink()
    assert spent(folder) == 15


def test_tasks_wait_when_no_more_is_there_until_somebody_raises_it(folder):
    folder.write(a_1=task(30, 90), a_2=task(30, 9, "priority: -1"), b_1=task(1, 1))
    write(
        folder.root, {"workspace.yaml": SETTINGS + "limits: {max_concurrent_agents: 1}"}
    )
    code, lines = folder.run()
    said = (
        "it waits for budget release: 10 of 100 tokens are left, and it reserves 30; "
    )
    said += "taskorch workspace raise-budget release '{\"tokens\": …}'"
    assert code == 1
    assert f"ALERT: a/2: {said}" in lines
    assert f"  a/2  waiting: {said}" in lines
    assert folder.status("a/2") is None
    assert folder.began() == ["a/1"]
    assert said in cli("why", "a/2", folder.root)[1]
    assert not Workspace(folder.root).can_launch("a/2")
    code, out, _ = cli("raise-budget", "release", '{"tokens": 200}', folder.root)
    assert (code, out.startswith("Budget release: ok; 90 of 200 tokens")) == (0, True)
    assert folder.run()[0] == 0
    assert spent(folder) == 100
    # It stays raised as long as the file declares the same.
    assert Workspace(folder.root).budgets()[0].total["tokens"] == 200
    write(
        folder.root, {"workspace.yaml": SETTINGS.replace("tokens: 100", "tokens: 110")}
    )
    assert Workspace(folder.root).budgets()[0].total["tokens"] == 110


def test_with_nothing_left_no_task_begins_whatever_it_reserves(folder):
    folder.write(
        a_1=task(100, 100),
        a_2="do: true|dependencies: [a/1]|retries: 3",
        c_1="do: true",
    )
    write(folder.root, {"tasks/d/1.md": "dependencies: [a/1]\ndo: true"})
    code, lines = folder.run()
    assert code == 1
    said = "it waits for budget release: 0 of 100 tokens are left"
    assert any(line.startswith(f"ALERT: a/2: {said}") for line in lines)
    assert "a/2" not in folder.began()
    assert "d/1" not in folder.began()


def test_a_run_goes_on_as_soon_as_there_is_more(folder):
    """A program that runs gives it time; who raises it needs no other run."""
    raised = folder.root / "raised"
    words = f"{sys.executable} -m taskorch workspace raise-budget release"
    wait = f"{words} '{{\"tokens\":500}}' . > {raised}"
    folder.write(
        a_1=task(60, f"{says(60)}; {wait}"), a_2=task(80, 80, "dependencies: [a/1]")
    )
    code, lines = folder.run()
    assert code == 0, lines
    assert spent(folder) == 140
    assert "60 reserved" in raised.read_text()


def test_what_comes_back_is_there_for_others(folder):
    """Each reserves 60 of 100, and spends 1: never two at once, and all are done."""
    folder.write(**{f"a_{n}": task(60, 1) for n in range(6)})
    code, lines = folder.run()
    assert code == 0, lines
    assert folder.most_at_once() == 1
    assert spent(folder) == 6


KILLED = """
import sys
from taskorch.ext.task_files import Workspace
Workspace(".", agent=sys.argv[1]).run()
"""


def test_a_kill_between_spending_and_settling_counts_all_that_was_reserved(folder):
    """Or more, as here, if the program had said so; its next attempt spends 7."""
    said, counted = 25, 25
    once = folder.root / "once"
    script = f"if [ -e {once} ]; then {says(7)}; else {says(said)}; touch {once}; sleep 600; fi"
    folder.write(a_1=task(20, script))
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"}
    words = [sys.executable, "-c", KILLED, folder.agent]
    with Started(words, env=env, cwd=folder.root) as incarnation:
        try:
            eventually(once.exists)
            reserved = {"tokens": max(20, said), "eur": 0}
            eventually(lambda: Workspace(folder.root).budgets()[0].reserved == reserved)
        finally:
            incarnation.send_signal(signal.SIGKILL)
    # Its guardian lets the lock go with the program.
    eventually(lambda: spent(folder) == counted)
    code, lines = folder.run()
    assert code == 0, lines
    assert spent(folder) == counted + 7
    assert folder.status("a/1")["spent"] == {"tokens": counted + 7}


#: An agent that notes what is there while it runs, says what it spends, or is killed.
SPENDER = f"""#!{sys.executable} -IS
import json, os, random, signal, sys, time
draw = random.Random(os.environ["TASK_ID"] + os.environ["TASK_FENCE"])
with open(os.environ["LEDGER"], "a") as ledger:
    print("begin", os.environ["TASK_ID"], os.environ["TASK_FENCE"], file=ledger)
spent = 0
for _ in range(draw.randrange(4)):
    part = draw.randrange(4)
    spent += part
    with open(os.environ["TASKORCH_SPENT"], "w") as pipe:
        print(json.dumps({{"tokens": part}}), file=pipe)
    time.sleep(draw.random() / 20)
with open(os.environ["LEDGER"], "a") as ledger:
    print("said", os.environ["TASK_ID"], os.environ["TASK_FENCE"], spent, file=ledger)
if draw.random() < 0.2:
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(draw.random() < 0.2)
"""


@pytest.mark.parametrize(
    "kills",
    [
        1,
        pytest.param(
            8, marks=[pytest.mark.slow("eight kills"), pytest.mark.timeout(900)]
        ),
    ],
)
def test_runners_that_share_a_folder_and_are_killed_never_pass_it(
    tmp_path, monkeypatch, kills
):
    """All spend at most what they reserve; so less than all of it is spent, and known."""
    root, count = tmp_path / "ws", 8 * kills
    total = 10 * count
    write(root, {f"tasks/a/{n}.md": "resources: {tokens: 9}" for n in range(count)})
    budgets = f"budgets: {{all: {{total: {{tokens: {total}}}}}}}\nbudget: all\n"
    write(root, {"workspace.yaml": budgets + "limits: {max_concurrent_agents: 3}"})
    agent, ledger = tmp_path / "agent", tmp_path / "ledger"
    agent.write_text(SPENDER)
    agent.chmod(0o755)
    monkeypatch.setenv("LEDGER", str(ledger))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    words = [sys.executable, "-c", KILLED, str(agent)]

    def start():
        return Started(words, cwd=root, stdout=subprocess.DEVNULL)

    dice = random.Random(kills)
    alive = [start(), start()]
    status = root / "workspace/status/a"
    workspace = Workspace(root, tell=None)
    try:
        for number in range(1, kills + 1):
            least = number * count // (kills + 2)
            eventually(lambda n=least: len(list(status.glob("*.json"))) >= n, 300)
            (usage,) = workspace.budgets()
            assert usage.spent["tokens"] + usage.reserved["tokens"] <= total
            victim = alive.pop(dice.randrange(2))
            victim.send_signal(signal.SIGKILL)
            victim.wait(PATIENCE)
            alive.append(start())
        for process in alive:
            process.wait(300)
    finally:
        for process in alive:
            process.kill()
            process.wait(PATIENCE)
    (usage,) = workspace.budgets()
    assert usage.reserved["tokens"] == 0
    said, begun = 0, 0
    for line in ledger.read_text().splitlines():
        what, _, _, *rest = line.split()
        begun += what == "begin"
        said += int(rest[0]) if rest else 0
    assert said <= usage.spent["tokens"] <= min(total, 9 * begun)
    each = [workspace.get_task_status(name) or {} for name in workspace.task_ids]
    tallies = sum(status.get("spent", {}).get("tokens", 0) for status in each)
    # Who waits for more has no status, and may have spent some before.
    assert tallies <= usage.spent["tokens"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("budgets: {a: {total: {tokens: 0}}}", "1:31: budgets.a.total.tokens: a number above 0 is needed, not 0"),
        ("budgets: {a: {total: {tokens: .nan}}}", "1:31: budgets.a.total.tokens: a number above 0 is needed, not nan"),
        ("budgets: {a: {total: {tokens: -1}}}", "1:31: budgets.a.total.tokens: a number above 0 is needed, not -1"),
        ("budgets: {a: {total: {tokens: x}}}", "1:31: budgets.a.total.tokens: a number above 0 is needed, not 'x'"),
        ("budgets: {a: {total: {agents: 3}}}", "1:23: budgets.a.total.agents: agents is no word for what is spent: it means something else"),
        ("budgets: {a: {}}", "1:14: budgets.a.total: it is missing"),
        ("budgets: {a: {total: {t: 1}, parent: b}}", "1:38: budgets.a.parent: there is no budget 'b'; there are a"),
        ("budget: b", "1:9: budget: there is no budget 'b'; there is none: declare it under budgets"),
        ("phases: {a: {budget: b}}", "1:22: phases.a.budget: there is no budget 'b'; there is none: declare it under budgets"),
    ],
)  # fmt: skip
def test_what_is_no_budget_is_refused_where_it_stands(tmp_path, settings, said):
    write(tmp_path, {"workspace.yaml": settings, "tasks/a/1.md": "estimate: 1"})
    assert list(map(str, Workspace(tmp_path).lint())) == [f"workspace.yaml:{said}"]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("budget: relase", "2:9: there is no budget 'relase' in workspace.yaml: release, part; did you mean 'release'?"),
        ("budget: 5", "2:9: budget: a text is needed, not 5: put it in quotes"),
        ("resources: {tokens: 0}", "2:21: resources.tokens: a number above 0 is needed, not 0"),
        ("resources: {tokens: .nan}", "2:21: resources.tokens: a number above 0 is needed, not nan"),
        ("resources: {tokens: x}", "2:21: resources.tokens: a number above 0 is needed, not 'x'"),
        ("resources: {tokns: 1}", "2:13: resources: there is no 'tokns' here; did you mean 'tokens'?"),
        ("resources: {memry_mb: 1}", "2:13: resources: there is no 'memry_mb' here; did you mean 'memory_mb'?"),
        ("budget: part\nresources:\n  usd: 1", "4:3: resources: usd is spent of budget 'other', and it draws on 'part'; say: budget: other"),
    ],
)  # fmt: skip
def test_what_a_file_may_not_draw_on_is_refused_where_it_stands(tmp_path, head, said):
    settings = SETTINGS
    if "usd" in head:
        settings = SETTINGS.replace("  part", "  other: {total: {usd: 1}}\n  part")
    write(tmp_path, {"workspace.yaml": settings, "tasks/a/1.md": head})
    assert list(map(str, Workspace(tmp_path).lint())) == [f"tasks/a/1.md:{said}"]


@pytest.mark.parametrize(
    ("name", "totals", "said"),
    [
        ("prt", {"tokens": 1}, "there is no budget 'prt'"),
        ("part", {}, "amounts above 0 of tokens are needed"),
        ("part", {"tokens": 0}, "amounts above 0 of tokens are needed"),
        ("part", {"eur": 1}, "amounts above 0 of tokens are needed"),
        ("part", {"tokens": -1}, "-1 is not between"),
        ("part", {"tokens": float("nan")}, "nan"),
        ("part", {"tokens": "x"}, "'x'"),
    ],
)
def test_what_is_no_amount_raises_nothing(folder, name, totals, said):
    folder.write(a_1="do: true")
    workspace = Workspace(folder.root)
    before = workspace.budgets()
    with pytest.raises(InvalidTaskError, match=said):
        workspace.raise_budget(name, totals)
    assert workspace.budgets() == before
    code, _, err = cli("raise-budget", name, json.dumps(totals), folder.root)
    assert (code, said in err) == (2, True)


def test_a_ledger_of_before_has_spent_nothing_and_a_damaged_line_is_none(folder):
    own = folder.root / "workspace/.taskorch"
    own.mkdir(parents=True)
    (own / "claims.jsonl").write_text(
        '{"task": "a/1", "fence": 3}\n'
        '{"task": "a/2", "fence": 1, "spent": {"release": {"tokens": 5000000}}}\n'
        '{"task": "a/2", "fence": 2, "spent": {"release": {"tokens": -5}}}\n'
        '{"task": "a/2", "fence": 2, "spent": 7}\n'
        '{"budget": "release", "total": 7}\n'
    )
    assert spent(folder) == 5
