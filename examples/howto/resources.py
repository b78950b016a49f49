from taskorch import Task, TaskOrchestrator
from taskorch.model import Quota


def download(shard: int) -> str:
    return f"shard-{shard}.parquet"


def train(files: list[str], seed: int) -> str:
    return f"model {seed} of {len(files)} files"


with TaskOrchestrator(resources={"cpu": 4, "gpu": 1}) as orch:
    orch.resources.set_quotas(
        Quota(type="download", max_parallel=3, starts_per_second=100, burst=3)
    )
    shards = [Task.call(download, n, resources={"cpu": 1}) for n in range(8)]
    files = orch.submit_tasks(shards)
    models = [Task.call(train, files, seed, resources={"gpu": 1}) for seed in (1, 2)]
    for model in orch.submit_tasks(models):
        print(model.result())
