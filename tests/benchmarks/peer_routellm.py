"""Trains RouteLLM's routers on battles of models and lets them score questions; `just peers` runs it where routellm is.

    python peer_routellm.py FOLDER

Networks, training loop and routers are those of routellm, and settings those of its training script. Its embeddings come from
OpenAI's API: a look-up of those in the folder takes the place of the client. Knows nothing of the toolkit, which is not
installed there.
"""

import json
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

BATTLES = "train.parquet"
DIMENSIONS, BATCH_SIZE, EPOCHS, NOISE, RATE, DECAY = 128, 64, 100, 0.1, 3e-4, 1e-5
"""Settings of `train_matrix_factorization.py`."""
HELD_OUT = 0.05
"""Share of the battles by which that script measures its progress."""


class Client:
    """Stands for OpenAI's client: returns the embedding of a question that the folder has.

    Args:
        vectors: The embeddings by text.
    """

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self.vectors = vectors
        self.embeddings = self

    def create(self, input: list[str], model: str) -> SimpleNamespace:
        """Return embeddings as OpenAI's client does."""
        return SimpleNamespace(data=[SimpleNamespace(embedding=self.vectors[text]) for text in input])


def train_factorisation(folder: Path, job: dict[str, Any], seed: int) -> float:
    """Train the matrix factorisation and save it as a checkpoint; return the processor time of training, in seconds."""
    from routellm.routers.matrix_factorization import model as inference
    from routellm.routers.matrix_factorization import train_matrix_factorization as training

    random.seed(seed)
    torch.manual_seed(seed)
    battles = [battle for battle in job["battles"] if battle["winner"] != "tie"]
    random.shuffle(battles)
    held_out = int(len(battles) * (1 - HELD_OUT))
    train, test = training.PairwiseDataset(battles[:held_out]), training.PairwiseDataset(battles[held_out:])
    vectors = folder / "embeddings.npy"
    n_questions, text_dim = np.load(vectors, mmap_mode="r").shape
    sizes = {
        "dim": DIMENSIONS,
        "num_models": len(inference.MODEL_IDS),
        "text_dim": text_dim,
        "num_classes": 1,
        "use_proj": True,
    }
    network = training.MFModel_Train(num_prompts=n_questions, npy_path=vectors, **sizes)
    settings = {"lr": RATE, "weight_decay": DECAY, "alpha": NOISE, "num_epochs": EPOCHS, "device": "cpu"}
    started = time.process_time()
    training.train_loops(network, train.get_dataloaders(BATCH_SIZE), test.get_dataloaders(1024, shuffle=False), **settings)
    seconds = time.process_time() - started
    checkpoint: Any = inference.MFModel(**sizes)
    weights = network.state_dict()
    checkpoint.load_state_dict(
        {
            "P.weight": weights["P.weight"],
            "text_proj.0.weight": weights["text_proj.weight"],
            "classifier.0.weight": weights["classifier.weight"],
        }
    )
    checkpoint.save_pretrained(folder / "mf", config=sizes)
    return seconds


def open_factorisation(folder: Path, job: dict[str, Any], dimensions: int) -> Any:
    """Return RouteLLM's router `mf` with the trained checkpoint."""
    from routellm.routers.matrix_factorization.model import MODEL_IDS
    from routellm.routers.routers import MatrixFactorizationRouter

    pair = {"strong_model": job["strong"], "weak_model": job["weak"]}
    return MatrixFactorizationRouter(str(folder / "mf"), text_dim=dimensions, num_models=len(MODEL_IDS), **pair)


def open_ranking(folder: Path, job: dict[str, Any], vectors: np.ndarray) -> Any:
    """Return RouteLLM's router `sw_ranking` on the battles, which it reads as data sets of two folders."""
    import pandas as pd
    from routellm.routers.routers import SWRankingRouter

    places = folder / "battles", folder / "battle_embeddings"
    for place in places:
        place.mkdir(exist_ok=True)
    battles = [
        battle for battle in job["battles"] if len(job["questions"][battle["idx"]].strip()) >= 16
    ]  # it drops shorter ones
    rows = [
        {
            "model_a": battle["model_a"],
            "model_b": battle["model_b"],
            "prompt": json.dumps([job["questions"][battle["idx"]]]),
            **{f"winner_{winner}": int(battle["winner"] == winner) for winner in ("model_a", "model_b", "tie")},
        }
        for battle in battles
    ]
    pd.DataFrame(rows).to_parquet(places[0] / BATTLES)
    pd.DataFrame({"embeddings": [vectors[battle["idx"]].tolist() for battle in battles]}).to_parquet(places[1] / BATTLES)
    pair = {"strong_model": job["strong"], "weak_model": job["weak"]}
    return SWRankingRouter([str(places[0])], [str(places[1])], num_tiers=len(job["models"]), **pair)


def scores(name: str, router: Any, job: dict[str, Any], seed: int, fit: float) -> dict[str, Any]:
    """Return the strong model's win rate on the validation and test questions; times are of the processor, in seconds."""
    texts = [job["questions"][row] for row in (*job["validation"], *job["test"])]
    router.calculate_strong_win_rate(texts[0])
    started = time.process_time()
    rates = [float(router.calculate_strong_win_rate(text)) for text in texts]
    return {
        "router": name,
        "seed": seed,
        "fit": fit,
        "decide": (time.process_time() - started) / len(texts),
        "win_rates": rates,
    }


def main(folder: Path) -> None:
    """Train the matrix factorisation with every seed, open the weighted ranking, and write how both score the questions."""
    torch.set_num_threads(1)
    job = json.loads((folder / "job.json").read_text("utf-8"))
    vectors = np.load(folder / "embeddings.npy")
    from routellm.routers import routers
    from routellm.routers.matrix_factorization import model

    client = Client(dict(zip(job["questions"], vectors.tolist(), strict=True)))
    for module in (routers, model):
        vars(module)["OPENAI_CLIENT"] = client
    model.MODEL_IDS.clear()
    model.MODEL_IDS.update({name: number for number, name in enumerate(job["models"])})
    results = []
    for seed in range(job["seeds"]):
        fit = train_factorisation(folder, job, seed)
        results.append(scores("mf", open_factorisation(folder, job, vectors.shape[1]), job, seed, fit))
        print(f"RouteLLM, mf, seed {seed}: {fit:.2f} s", file=sys.stderr, flush=True)
    started = time.process_time()
    ranking = open_ranking(folder, job, vectors)
    results.append(scores("sw_ranking", ranking, job, 0, time.process_time() - started))
    (folder / "routellm.json").write_text(json.dumps(results), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
