"""
Tasks behind a web server: a short one is awaited by its request; a long one is answered
with 202 and a place to ask for it; and when too many wait already, 503 says so at once.

    python examples/web_handler.py            asks itself, prints that, and ends
    python examples/web_handler.py --serve    http://127.0.0.1:8080/primes/1000

The server is a few lines of asyncio; in FastAPI, aiohttp or Starlette, `answer` is what
your handlers do, and `async with orch` stands in the lifespan of the application.
"""

import asyncio
import math
import sys

from taskorch import Task, TaskOrchestrator
from taskorch.errors import QueueFullError, UnknownTaskError
from taskorch.policies import PriorityQueue

# Two at once, three that wait: one more is refused.
orch = TaskOrchestrator(concurrency=2, queue=PriorityQueue(max_queued=3))
printed = asyncio.Event()

Answer = tuple[int, str]


def count_primes(last: int) -> int:
    """A plain function: it runs on a thread, and the loop goes on serving."""
    return sum(
        all(number % n for n in range(2, math.isqrt(number) + 1))
        for number in range(2, last)
    )


async def write_report(month: str) -> str:
    """A coroutine: it runs on the server's own loop."""
    await printed.wait()
    return f"the report of {month}"


async def answer(method: str, path: str) -> Answer:
    try:
        match [method, *path.strip("/").split("/")]:
            case ["GET", "primes", number]:
                # If it takes too long, the request ends; the task goes on.
                found = orch.submit(count_primes, int(number))
                return 200, str(await asyncio.wait_for(found, timeout=10))
            case ["POST", "reports", month]:
                report = Task.call(write_report, month, id=f"reports/{month}")
                return 202, f"see /tasks/{orch.submit_task(report).task_id}"
            case ["GET", "tasks", *rest]:
                status = orch.get_task_status("/".join(rest))
                return 200, f"{status.task_id} is {status.state}"
    except QueueFullError as error:
        return 503, error.message
    except (UnknownTaskError, ValueError):
        return 404, "there is no such thing"
    except TimeoutError:
        return 504, "it takes too long"
    return 404, "there is no such page"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    method, path, _ = (await reader.readline()).decode().split(" ", 2)
    while await reader.readline() not in (b"\r\n", b""):
        pass
    status, text = await answer(method, path)
    writer.write(
        f"HTTP/1.1 {status} \r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode()
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def ask(port: int, request: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{request} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
    head, _, text = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    print(f"{request:19} {head.split()[1]} {text}")


async def main() -> None:
    async with orch:
        server = await asyncio.start_server(
            serve, "127.0.0.1", 8080 if "--serve" in sys.argv else 0
        )
        async with server:
            port = server.sockets[0].getsockname()[1]
            if "--serve" in sys.argv:
                printed.set()
                await server.serve_forever()
            await ask(port, "GET /primes/1000")
            for month in ("may", "june", "july", "august", "october", "november"):
                await ask(port, f"POST /reports/{month}")
            await ask(port, "GET /tasks/reports/may")
            printed.set()
            await orch.aio.wait()
            await ask(port, "GET /tasks/reports/may")
            await ask(port, "GET /tasks/reports/november")


if __name__ == "__main__":
    asyncio.run(main())
