"""Tables made by hand, whose best routes are known."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from toolkit.replay.table import TransitionTable


def make_table(
    quality: npt.NDArray[np.float64],
    hop_cost: npt.NDArray[np.float64],
    horizon: int,
    models: Sequence[str],
    vectors: npt.NDArray[np.float32] | None = None,
    benchmark: npt.NDArray[np.int64] | None = None,
    split: npt.NDArray[np.str_] | None = None,
) -> TransitionTable:
    """A table whose rows are observed as themselves; of one benchmark and all in training, unless told otherwise."""
    rows, decision = len(quality), sum(len(models) ** depth for depth in range(horizon))
    known = np.eye(rows, dtype=np.float32) if vectors is None else vectors
    texts = np.zeros((rows, decision, 1), np.int32)
    texts[:, :, 0] = np.arange(1, rows + 1)[:, None]
    return TransitionTable(
        tuple(models),
        horizon,
        ("toy",) if benchmark is None else tuple(f"toy{n}" for n in range(int(benchmark.max()) + 1)),
        np.zeros(rows, np.int64) if benchmark is None else benchmark,
        np.array(["train"] * rows) if split is None else split,
        quality,
        hop_cost,
        np.vstack([np.zeros((1, known.shape[1]), np.float32), known]),
        texts,
    )
