from taskorch import TaskOrchestrator, task
from taskorch.model import Cache


@task(cache=Cache(expires=86_400, ignore={"verbose"}))
def convert(path: str, verbose: bool = False) -> str:
    return path.replace(".csv", ".parquet")


with TaskOrchestrator() as orch:
    orch.submit(convert, "may.csv").result()
    orch.options(id="again").submit(convert, "may.csv", verbose=True).result()
    print(orch.explain("again").cache)  # hit: …
