"""Fits LLMRouter's routers on routing data and lets them route the test questions; `just peers` runs it where llmrouter is.

    python peer_llmrouter.py FOLDER

Classes, trainers and `route_single` are those of llmrouter-lib, and settings those of its configuration files
(configs/model_config_train), except for the size of embeddings, and where a router's name says so. Its encoder, Longformer, has
to be downloaded: a look-up of the embeddings in the folder takes its place. Knows nothing of the toolkit, which is not
installed there.
"""

import contextlib
import functools
import importlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

KNN = {"n_neighbors": 5, "weights": "uniform", "algorithm": "auto", "leaf_size": 30, "p": 2, "metric": "minkowski"}
SVM = {"kernel": "rbf", "C": 1.0, "gamma": "scale", "probability": True}
MLP = {
    "hidden_layer_sizes": [128, 64],
    "activation": "relu",
    "alpha": 0.0001,
    "learning_rate_init": 0.001,
    "max_iter": 500,
}
MF = {"latent_dim": 128, "lr": 0.001, "epochs": 5, "noise_alpha": 0.0}
GRAPH = {
    "hidden_dim": 64,
    "learning_rate": 0.001,
    "weight_decay": 0.0001,
    "train_epoch": 100,
    "batch_size": 4,
    "train_mask_rate": 0.3,
    "val_split_ratio": 0.2,
}


class Kind(NamedTuple):
    """A router of LLMRouter.

    Attributes:
        router: Its class.
        trainer: The class of its trainer.
        settings: Its settings, `hparam` in its configuration file.
        is_random: Whether the seed matters.
        suffix: How the name of its saved model ends.
    """

    router: str
    trainer: str
    settings: dict[str, Any]
    is_random: bool = True
    suffix: str = ".pkl"


KINDS = {
    "knnrouter": Kind("KNNRouter", "KNNRouterTrainer", KNN, is_random=False),
    "svmrouter": Kind("SVMRouter", "SVMRouterTrainer", SVM, is_random=False),
    "mlprouter": Kind("MLPRouter", "MLPTrainer", MLP),
    "mfrouter": Kind("MFRouter", "MFRouterTrainer", MF),
    "mfrouter (30 epochs)": Kind("MFRouter", "MFRouterTrainer", {**MF, "epochs": 30}),
    "graphrouter": Kind("GraphRouter", "GraphTrainer", GRAPH, suffix=".pt"),
    "elorouter": Kind("EloRouter", "EloRouterTrainer", {}, is_random=False),
}


def write_config(folder: Path, name: str, dimensions: int) -> Path:
    """Write the configuration file of a router, in JSON, which is YAML, too."""
    saved = str(folder / f"{name}{KINDS[name].suffix}")
    config = {
        "data_path": {
            "routing_data_train": str(folder / "routing_data_train.jsonl"),
            "query_data_test": str(folder / "query_data_test.jsonl"),
            "query_embedding_data": str(folder / "query_embeddings.pt"),
            "llm_data": str(folder / "llm_data.json"),
        },
        "model_path": {"ini_model_path": "", "save_model_path": saved, "load_model_path": saved},
        "metric": {"weights": {"performance": 1, "cost": 0, "llm_judge": 0}},
        "hparam": {**KINDS[name].settings, **({"text_dim": dimensions} if KINDS[name].router == "MFRouter" else {})},
    }
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(config), "utf-8")
    return file


def route(folder: Path, name: str, seed: int, embeddings: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Fit a router and let it route the test questions one by one; times are of the processor, in seconds."""
    kind = KINDS[name]
    package = importlib.import_module(f"llmrouter.models.{name.partition(' ')[0]}")
    module: Any = importlib.import_module(f"{package.__name__}.router")
    module.get_longformer_embedding = embeddings.__getitem__
    if hasattr(module, "load_model"):
        module.load_model = functools.cache(importlib.import_module("llmrouter.utils").load_model)  # from memory, once read
    config = write_config(folder, name, len(next(iter(embeddings.values()))))
    torch.manual_seed(seed)
    np.random.seed(seed)
    router = getattr(package, kind.router)(str(config))
    trainer = getattr(package, kind.trainer)(router, device="cpu")
    started = time.process_time()
    trainer.train()
    fit = time.process_time() - started
    queries = router.query_data_test
    router.route_single(queries[0])  # reads the saved model
    started = time.process_time()
    choices = [router.route_single(query)["model_name"] for query in queries]
    return {
        "router": name,
        "seed": seed,
        "fit": fit,
        "decide": (time.process_time() - started) / len(queries),
        "choices": choices,
    }


def main(folder: Path) -> None:
    """Run every router on the data of every price, with several seeds if it is random, and write what they choose."""
    torch.set_num_threads(1)
    job = json.loads((folder / "job.json").read_text("utf-8"))
    vectors = torch.from_numpy(np.load(folder / "embeddings.npy"))
    embeddings = dict(zip(job["questions"], vectors, strict=True))
    results = []
    for alpha in job["alphas"]:
        place = folder / f"alpha-{alpha}"
        torch.save(vectors, place / "query_embeddings.pt")
        for name, kind in KINDS.items():
            for seed in range(job["seeds"] if kind.is_random else 1):
                with contextlib.redirect_stdout(io.StringIO()):
                    results.append({"alpha": alpha, **route(place, name, seed, embeddings)})
            print(f"LLMRouter, {name}, alpha {alpha}: {results[-1]['fit']:.2f} s", file=sys.stderr, flush=True)
    (folder / "llmrouter.json").write_text(json.dumps(results), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
