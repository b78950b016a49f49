"""An extension: licences are bought, limit how many tasks run, and expire."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from taskorch import Task, TaskOrchestrator
from taskorch.ext.client import Client
from taskorch.kit.extension import Extension
from taskorch.kit.verbs import verb


class Licences(Extension):
    name = "licences"

    def check(self) -> str:
        today = datetime.now(UTC).date().isoformat()
        expired = [order for order in self.kept if self.kept[order]["until"] < today]
        return f"expired: {', '.join(expired)}" if expired else ""

    @verb("Buy licences.", "commit", "POST /orders/{order}", needs="administer")
    def buy(self, order: str, seats: int, until: str) -> int:
        """Keep an order, and let as many tasks run at once as there are licences."""
        end = date.fromisoformat(until).isoformat()
        self.kept[order] = {"seats": seats, "until": end}
        total: int = sum(each["seats"] for each in self.kept.values())
        self.orch.resources.resize({"licence": total})
        return total

    @verb("All orders, by their numbers.", "not", "GET /orders")
    def orders(self) -> Mapping[str, Any]:
        return dict(self.kept)


def main() -> None:
    orch = TaskOrchestrator(journal="licences.db", extensions=[Licences()])
    with orch, orch.serve(port=0) as server:
        client = Client(server.url, token=server.token)
        order = f"A-{len(client.call('licences.orders')) + 1}"
        print(client.call("licences.buy", order=order, seats=2, until="2020-12-31"))
        task = Task.call(len, "wind", resources={"licence": 1})
        print(orch.submit_task(task).result())
        parts = {check.component: check for check in orch.health().checks}
        print(parts["extension licences"].detail)


if __name__ == "__main__":
    main()
