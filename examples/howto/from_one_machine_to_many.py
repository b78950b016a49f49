"""Forecasts for shops, on a Dask cluster."""

from distributed import LocalCluster

from taskorch import Resources, Task, TaskOrchestrator
from taskorch.ext.hosts import dask


def forecast(shop):
    return {"shop": shop, "orders": 40 + len(shop)}


if __name__ == "__main__":
    with LocalCluster(n_workers=1, dashboard_address="127.0.0.1:0") as cluster:
        executors = {"cluster": dask(cluster, per_host=Resources(cpu=2))}
        with TaskOrchestrator(executors=executors) as orch:
            shops = ["paris", "rome"]
            tasks = [Task.call(forecast, s, executor="cluster") for s in shops]
            print([handle.result() for handle in orch.submit_tasks(tasks)])
