"""
A workflow: texts are counted side by side, the counts are added up, and a report is
written; one step fails the first time, and only that step is run again.
"""

from collections import Counter

from taskorch import TaskOrchestrator, Workflow, WorkflowFailedError

TEXTS = ("the cat and the dog", "the dog", "a cat")
OUTAGE = [True]


def count(text: str) -> Counter[str]:
    return Counter(text.split())


def add_up(counts: list[Counter[str]]) -> Counter[str]:
    return sum(counts, Counter[str]())


def report(total: Counter[str]) -> str:
    if OUTAGE:
        OUTAGE.pop()
        message = "the printer is out of paper"
        raise OSError(message)
    return ", ".join(f"{word} {n}" for word, n in total.most_common(3))


def main() -> None:
    wf = Workflow("words")
    counts = [wf.task(count, text) for text in TEXTS]
    total = wf.task(add_up, counts)
    wf.task(report, total)

    with TaskOrchestrator() as orch:
        run = orch.workflows.start(wf, id="monday")
        try:
            run.result()
        except WorkflowFailedError as error:
            print(f"failed: {error.failures}")
        print(run.status())
        orch.workflows.restart("monday")
        print(run.result()["report"])


if __name__ == "__main__":
    main()
