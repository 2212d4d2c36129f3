"""What the tests of collecting share."""

import gc
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def streams_of_inspect_are_collected(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect the streams and sockets that Inspect leaves open, which warn of it when they go."""
    yield
    if "inspect_ai" in sys.modules and {"served", "monkeypatch", "logs"} & set(request.fixturenames):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
