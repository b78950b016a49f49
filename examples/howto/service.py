from taskorch import Task, TaskOrchestrator
from taskorch.ext.client import Client
from taskorch.ext.service import create_app, new_token, serve


def total(prices, tax):
    return round(sum(prices) * (1 + tax), 2)


FUNCTIONS = {"total": total}
orch = TaskOrchestrator()
token = new_token()
app = create_app(orch, token=token, functions=FUNCTIONS)
with orch, serve(app, port=0) as server:  # in production: port=8080
    client = Client(server.url, token=token, functions=FUNCTIONS)
    invoice = Task.call(total, [20, 70], 0.25, id="invoice/7", retry=3)
    print(client.submit_task(invoice).result(timeout=30))  # 112.5
