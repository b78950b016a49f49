"""A large result: it is in a folder, and the journal has its place, size and sum."""

from taskorch import Task, TaskOrchestrator
from taskorch.ext.large_values import LargeValues


def embed(documents: int) -> list[list[float]]:
    return [
        [place / (number + 1) for place in range(64)] for number in range(documents)
    ]


def widest(vectors: list[list[float]]) -> float:
    return max(map(sum, vectors))


def orchestrator() -> TaskOrchestrator:
    # In production: LargeValues("s3://my-bucket/night").
    values = LargeValues("values", keep_mb=0.1)
    return TaskOrchestrator(journal="night.db", extensions=[values])


def main() -> None:
    with orchestrator() as orch:
        orch.submit_task(Task.call(embed, 500, id="embed")).result()
    with orchestrator() as orch:
        kept = orch.get_task_status("embed").result
        print(f"{kept.size:,} bytes with the sum {kept.sha256[:12]}…")
        print(orch.submit_task(Task.call(widest, orch.handle("embed"))).result())
        orch.prune(older_than=0)
        print(orch.extensions[LargeValues].sweep())


if __name__ == "__main__":
    main()
