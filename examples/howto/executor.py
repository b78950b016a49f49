from concurrent.futures import as_completed

from taskorch import TaskExecutor


def fetch(page: int) -> str:
    return f"page {page}"


with TaskExecutor(4) as pool:
    print(list(pool.map(fetch, range(3))))
    for future in as_completed(pool.submit(fetch, page) for page in range(3)):
        print(future.result())
