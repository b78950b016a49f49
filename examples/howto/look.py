"""Work, with its dashboard in a browser."""

from taskorch import TaskOrchestrator

with TaskOrchestrator() as orch, orch.serve(port=0) as server:
    print(server.page)  # http://127.0.0.1:…/#code=…
    orch.submit(sum, [20, 70]).result()
