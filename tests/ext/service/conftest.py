from __future__ import annotations

import pytest


@pytest.fixture
def service():
    from tests.ext.service.tools import orchestrator, served

    with served(orchestrator(), functions={"double": lambda n: 2 * n}) as found:
        yield found
