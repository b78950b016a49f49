import tempfile
from pathlib import Path

from taskorch import Task, TaskOrchestrator
from taskorch.ext.client import Client, ServiceError
from taskorch.ext.people import Tokens
from taskorch.ext.service import create_app, serve

tokens = Tokens(Path(tempfile.mkdtemp()) / "tokens.json")
ada = tokens.add("ada", ["operate"])
lou = tokens.add("lou", ["look"])
shop = tokens.add("shop", ["submit"], tenants=["acme"], kind="program")

orch = TaskOrchestrator()
app = create_app(orch, token=None, tokens=tokens, functions={"total": sum})
with orch, serve(app, port=0) as server:
    client = Client(server.url, token=shop, functions={"total": sum})
    invoice = client.submit_task(Task.call(sum, [20, 70]))
    print(invoice.result(timeout=30))  # 90
    try:
        Client(server.url, token=lou).hold_starts("a look")
    except ServiceError as error:
        print(error.message)  # lou may not do hold_starts
    Client(server.url, token=ada).hold_starts("the month is being closed")
    print(orch.get_stats().holds)  # the hold says: ada
    tokens.revoke("ada")
