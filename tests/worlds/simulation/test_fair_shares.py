"""Nobody starves: owners that share, and kinds of tasks that block themselves."""

import pytest
from tests.worlds.simulation.disasters import run_through_disasters

from taskorch.policies import FairShareQueue


@pytest.mark.parametrize("seed", range(6))
def test_whatever_goes_wrong_all_guarantees_hold(seed):
    tenants = (None, "ann", "ben", "cy")

    def options(number):
        return {
            "owner": tenants[number % 4],
            "resources": {"cpu": (1, 2, 0.5)[number % 3]},
        }

    queue = FairShareQueue({"ann": 2}, by_demand=seed % 2 == 0)
    run_through_disasters(seed, queue, options)
