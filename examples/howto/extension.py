"""An extension: licences are bought, taken by tasks, counted by team, and expire."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from taskorch import Task, TaskOrchestrator
from taskorch.client import Client
from taskorch.events import TaskSubmitted
from taskorch.kit.extension import Extension
from taskorch.kit.verbs import verb
from taskorch.protocols import Projection


class Usage(Projection):
    """Counts the tasks of each team that take a licence, from the first one on."""

    wants = frozenset({TaskSubmitted})

    def __init__(self) -> None:
        self.teams: Counter[str] = Counter()

    def take(self, event: Any, document: Any) -> None:
        if document is not None and "licence" in document.resources:
            self.teams[document.owner] += 1


class Licences(Extension):
    name = "licences"

    def attach(self, orch: TaskOrchestrator) -> None:
        self.usage = Usage()
        orch.signals.follow(self.usage)

    def check(self) -> str:
        today = datetime.now(UTC).date().isoformat()
        expired = [order for order in self.kept if self.kept[order]["until"] < today]
        return f"expired: {', '.join(expired)}" if expired else ""

    @verb("Buy licences.", "commit", "POST /orders/{order}", needs="administer")
    def buy(self, order: str, seats: int, until: str) -> int:
        """Keep an order, and let as many tasks run at once as there are licences."""
        self.kept[order] = {
            "seats": seats,
            "until": date.fromisoformat(until).isoformat(),
        }
        total: int = sum(each["seats"] for each in self.kept.values())
        self.orch.resources.resize({"licence": total})
        return total

    @verb("How many tasks of each team have taken a licence.", "not", "GET /teams")
    def teams(self) -> Mapping[str, int]:
        return dict(self.usage.teams)


def main() -> None:
    licences = Licences()
    orch = TaskOrchestrator(journal="licences.db", extensions=[licences])
    with orch, orch.serve(port=0) as server:
        client = Client(server.url, token=server.token)
        print(client.call("licences.buy", order="A-17", seats=2, until="2020-12-31"))
        for team in ("wind", "wind", "sea"):
            orch.submit_task(Task.call(len, team, owner=team, resources={"licence": 1}))
        orch.wait()
        print(client.call("licences.teams"))
        parts = {check.component: check for check in orch.health().checks}
        print(parts["extension licences"].detail)


if __name__ == "__main__":
    main()
