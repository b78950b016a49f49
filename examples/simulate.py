"""
A night's work, simulated before it runs: how long it takes, on what that hangs, and
what one more of anything would save. Nothing is run; the answer is there at once.
"""

from taskorch import (
    Resources,
    RetryPolicy,
    Task,
    TaskContext,
    TaskOrchestrator,
    Workflow,
)

SHOPS = ("berlin", "lima", "oslo", "paris", "quito", "rome", "tokyo", "vienna")


def fetch(shop: str) -> str:
    message = f"nobody fetches {shop} in a simulation"
    raise AssertionError(message)


def clean(sales: str) -> str:
    return sales


def train(parts: list[str]) -> str:
    return "".join(parts)


def send(report: str) -> None:
    print(report)


def night() -> Workflow:
    wf = Workflow("night")
    parts = []
    for shop in SHOPS:
        sales = wf.task(fetch, shop, id=f"fetch/{shop}", retry=RetryPolicy(3, base=60))
        parts.append(
            wf.task(clean, sales, id=f"clean/{shop}", resources=Resources(cpu=2))
        )
    model = wf.task(train, parts, id="train", resources=Resources(cpu=4, gpu=1))
    check = wf.add(Task("review", id="review", after=[model]))
    wf.task(send, model, id="send", after=[check])
    return wf


def main() -> None:
    orch = TaskOrchestrator(resources=Resources(cpu=4, gpu=1))

    @orch.agent("analyst", capabilities={"review"})
    def review(task: Task, context: TaskContext) -> str:
        return "looks good"

    wf = night()
    minutes = 60.0
    report = orch.simulate(
        wf,
        {
            # By type; drawn anew for each task and each draw.
            "fetch": lambda task, random: random.uniform(5, 15) * minutes,
            "clean": 20 * minutes,
            "train": 90 * minutes,
            "review": 30 * minutes,
            # By id.
            "send": 5,
        },
        # One in ten attempts to fetch fails, and is tried again after a minute.
        failures={"fetch": 0.1},
        draws=100,
        seed=1,
    )
    print(report)
    print()
    print("The last to begin:")
    for one in sorted(report.schedule, key=lambda one: one.start)[-3:]:
        print(f"  {one.task_id} on {one.agent_id}, {one.start / 3600:.1f} h")
    best = report.bottleneck
    if best is not None:
        print(f"So: {best.what}.")


if __name__ == "__main__":
    main()
