from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.toy import known_table
from toolkit.core.errors import PolicyError
from toolkit.routing.router import load_router
from toolkit.routing.train import train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite


def test_a_policy_of_another_pool_is_refused(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    trained = train(suite, cache, TrainConfig(timesteps=500), 0, tmp_path)
    with pytest.raises(PolicyError, match="trained for the pool sums, words over 2 hops"):
        load_router(trained.path).probabilities(known_table(), np.arange(2))


@pytest.mark.parametrize("content", [None, b"junk"])
def test_a_file_that_is_not_a_policy_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "policy.zip"
    if content:
        path.write_bytes(content)
    with pytest.raises(PolicyError, match=r"policy\.zip"):
        load_router(path)
