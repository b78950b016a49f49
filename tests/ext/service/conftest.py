from __future__ import annotations

import pytest
from tests.ext.service.tools import orchestrator, served


@pytest.fixture
def service():
    with served(orchestrator(), functions={"double": lambda n: 2 * n}) as found:
        yield found
