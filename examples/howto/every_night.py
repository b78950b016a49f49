from taskorch import TaskOrchestrator


def backup():
    return "kept"


with TaskOrchestrator(journal="nights.db") as orch:
    orch.schedules.add("nightly", "0 3 * * *", backup, zone="Europe/Berlin", jitter=60)

    @orch.schedule("every 15m")
    def look():
        return "all is well"

    print(orch.schedules.next("nightly", 3))
    print(orch.schedules.explain("nightly"))
    by_hand = orch.schedules.trigger("nightly")  # now, besides its ticks
    print(by_hand, orch.handle(by_hand).result())
