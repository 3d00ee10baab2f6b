from pathlib import Path

import pytest

from tests.services.events import Webhooks


@pytest.fixture(scope="session")
def webhooks(node_modules: Path) -> Webhooks:
    return Webhooks(node_modules=node_modules)
