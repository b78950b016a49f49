"""
The first two minutes: functions that wait for each other, an agent that is tried
again, a program, and the answer to "why does this not run?".

    python examples/quickstart.py
"""

import sys

from taskorch import RetryPolicy, Task, TaskContext, TaskOrchestrator

orch = TaskOrchestrator(concurrency=4)


# What is not a function is a task, and somebody must be able to do it: an agent that
# has the capability which the task needs, by default the one named as its type.
@orch.agent("reviewer", capabilities={"review"}, max_concurrency=2)
def review(task: Task, context: TaskContext) -> str:
    if task.payload == "engine.py" and context.attempt == 1:
        message = "the reviewer was out for lunch"
        raise ConnectionError(message)
    return f"{task.payload} looks good (attempt {context.attempt})"


def words(text: str) -> list[str]:
    return text.split()


def longest(*lists: list[str]) -> str:
    return max((word for words in lists for word in words), key=len)


pantry: dict[str, str] = {}


def bake(flour: str) -> str:
    return f"bread of {flour} of flour"


def main() -> None:
    with orch:
        # 1. Functions. One that is given a handle waits for it, and has its result.
        one = orch.submit(words, "in the beginning")
        two = orch.submit(words, "was the orchestrator")
        print("longest word:", orch.submit(longest, one, two).result())

        # 2. Many of them, as with the built-in map: results in order, as they come.
        print("squares:", list(orch.map(pow, range(6), [2] * 6)))

        # 3. Tasks for an agent. One fails at first, and is tried again.
        retry = RetryPolicy(max_attempts=3, base=0.01)
        tasks = [
            Task("review", path, id=path, retry=retry) for path in ("a.py", "engine.py")
        ]
        for handle in orch.submit_tasks(tasks):
            print("review:", handle.result())

        # 4. A program: never through a shell; what it prints is kept.
        hello = orch.submit_task(Task.program([sys.executable, "-c", "print(6 * 7)"]))
        print("program:", hello.result().stdout_tail.strip())

        # 5. One fails, and what waits for it cannot run. Ask why, mend it, go on.
        flour = orch.submit_task(Task.call(pantry.pop, "flour", id="flour"))
        bread = orch.submit_task(Task.call(bake, flour, id="bake"))
        print("flour:", repr(flour.exception()))
        print(orch.explain("bake"))
        pantry["flour"] = "500 g"
        orch.rerun_task("flour")
        print("bake:", bread.result())


if __name__ == "__main__":
    main()
