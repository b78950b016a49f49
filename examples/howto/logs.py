import logging

from taskorch import Task, TaskOrchestrator

log = logging.getLogger("sales")
log.setLevel("INFO")


def load(day):
    print("loading", day)
    log.info("%s has %d rows", day, 3)
    return 3


if __name__ == "__main__":
    with TaskOrchestrator(journal="nights.db") as orch:
        orch.submit_task(Task.call(load, "monday", id="load")).result()
        print(orch.log("load").text)
