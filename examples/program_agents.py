"""
Agents as programs: each gets its task as JSON on its input, and answers on its output.
Any program will do, in any language; this one is Python, so that it runs everywhere.

    python examples/program_agents.py

The orchestrator starts each from a list of arguments, in a small environment; it keeps
what they print, ends those that take too long, and tries again what fails.
"""

import json
import sys

from taskorch import (
    Program,
    ProgramFailedError,
    ProgramResult,
    RetryPolicy,
    Task,
    TaskContext,
    TaskOrchestrator,
    TaskTimeoutError,
)

# Stands for the agent that you would call here: a model's command line, a compiler, a
# script. What it says on standard error is in its log, and in the error if it fails.
AGENT = """
import json, os, sys, time
task = json.load(sys.stdin)
print("I am", os.environ["TASKORCH_TASK"], file=sys.stderr)
if task["file"] == "flaky.py" and task["attempt"] == 1:
    sys.exit("the model is overloaded")
if task["file"] == "broken.py":
    sys.exit("line 7: unexpected end of file")
if task["file"] == "endless.py":
    time.sleep(600)
print(json.dumps({"file": task["file"], "verdict": "looks good"}))
"""

orch = TaskOrchestrator(grace=0.5)


@orch.agent(
    "reviewer", capabilities={"code-review"}, max_concurrency=2, executor="program"
)
def review(task: Task, context: TaskContext) -> Program:
    brief = {"file": task.payload, "attempt": context.attempt}
    return Program([sys.executable, "-c", AGENT], stdin=json.dumps(brief))


def main() -> None:
    retry = RetryPolicy(max_attempts=2, base=0.01)
    tasks = [
        Task("code-review", "good.py", id="good.py"),
        Task("code-review", "flaky.py", id="flaky.py", retry=retry),
        Task("code-review", "broken.py", id="broken.py"),
        Task("code-review", "endless.py", id="endless.py", timeout=2),
    ]
    with orch:
        for handle in orch.submit_tasks(tasks):
            try:
                result: ProgramResult = handle.result()
            except (ProgramFailedError, TaskTimeoutError) as error:
                print(f"{type(error).__name__}: {error.message}")
            else:
                answer = json.loads(result.stdout_tail)
                attempts = orch.get_task_status(handle.task_id).attempts
                print(f"{answer['file']} {answer['verdict']}, attempts: {attempts}")


if __name__ == "__main__":
    main()
