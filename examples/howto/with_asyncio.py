"""Fetch pages on your own loop."""

import asyncio

from taskorch import TaskOrchestrator


async def fetch(page):
    await asyncio.sleep(0.01)
    return len(page)


async def main():
    async with TaskOrchestrator(concurrency=100) as orch:
        handles = [orch.submit(fetch, page) for page in ("home", "news", "shop")]
        print(await asyncio.gather(*handles))  # [4, 4, 4]
        print(await orch.submit(sum, handles))  # 12


asyncio.run(main())  # in a notebook: await main()
