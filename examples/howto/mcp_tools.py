import sys
from typing import Any

from mcp import Client, StdioServerParameters

from taskorch import TaskOrchestrator, current_context

SERVER = StdioServerParameters(
    command=sys.executable, args=["-m", "taskorch", "mcp", "night.db"]
)


async def call(tool: str, **arguments: Any) -> Any:
    async with Client(SERVER) as client:
        answer = await client.call_tool(tool, arguments)
    if answer.is_error:
        raise RuntimeError(answer.content)
    return answer.structured_content


async def report() -> str:
    step = current_context().aio.step
    night = await step("find", call, "find", state="completed", timeout=60)
    return f"{len(night['tasks'])} completed"


with TaskOrchestrator(journal="night.db") as first:
    first.submit(sum, [20, 70]).result()
with TaskOrchestrator(journal="reports.db") as orch:
    print(orch.submit(report).result())
