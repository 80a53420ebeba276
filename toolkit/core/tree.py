"""The prefix tree of one question as a complete M-ary heap (pure).

Node 0 is the root (the bare question); the children of node `n` are `n * M + 1 ... n * M + M`, in the order
of the pool. A level is therefore one contiguous slice, and backing values up a level is one reshape.
"""

Path = tuple[int, ...]
"""Positions in the pool of the models chosen so far, in order."""


def n_nodes(n_models: int, horizon: int) -> int:
    """Return the number of nodes of depth 0 to `horizon`, the root included."""
    return sum(n_models**depth for depth in range(horizon + 1))


def n_decision_nodes(n_models: int, horizon: int) -> int:
    """Return the number of nodes at which a model is still to be chosen (depth below `horizon`)."""
    return n_nodes(n_models, horizon - 1)


def level(n_models: int, depth: int) -> slice:
    """Return the slice of the nodes at `depth`."""
    start = n_nodes(n_models, depth - 1) if depth else 0
    return slice(start, start + n_models**depth)


def node_of(path: Path, n_models: int) -> int:
    """Return the number of the node that `path` leads to.

    Raises:
        ValueError: The path names a model outside the pool.
    """
    node = 0
    for action in path:
        if not 0 <= action < n_models:
            raise ValueError(f"action {action} is outside a pool of {n_models} models")
        node = node * n_models + 1 + action
    return node


def path_of(node: int, n_models: int) -> Path:
    """Return the path that leads to `node`."""
    path: list[int] = []
    while node:
        path.append((node - 1) % n_models)
        node = (node - 1) // n_models
    return tuple(reversed(path))


def paths(n_models: int, horizon: int) -> list[Path]:
    """Return the paths of all nodes of depth 0 to `horizon`, in the order of their numbers."""
    return [path_of(node, n_models) for node in range(n_nodes(n_models, horizon))]
