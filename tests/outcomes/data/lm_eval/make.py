"""Makes the logs in this folder with lm-evaluation-harness and two scripted models: python make.py, where lm-eval is installed.

Written by lm_eval 0.4.13. Fields that describe the machine are removed.
"""

import json
import os
import re
import shutil
from hashlib import sha256
from pathlib import Path

import lm_eval
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

HERE = Path(__file__).parent
KEPT = ("results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "config", "task_hashes")
KEPT_NAMES = ("model_source", "model_name", "model_name_sanitized", "lm_eval_version", "date")


@register_model("scripted")
class Scripted(LM):
    """Responds from a table, better the larger it claims to be, and rates continuations by a hash."""

    def __init__(self, pretrained: str, **settings: object) -> None:
        super().__init__()
        self.name = pretrained

    @classmethod
    def create_from_arg_obj(cls, arguments: dict, additional: dict | None = None) -> "Scripted":
        return cls(**arguments)

    def _draw(self, *texts: object) -> int:
        return int.from_bytes(sha256("|".join(map(str, (self.name, *texts))).encode()).digest()[:4], "big")

    def generate_until(self, requests: list, disable_tqdm: bool = False) -> list[str]:
        responses = []
        for number, request in enumerate(requests):
            answer = request.doc["answer"]
            wrong = str(int(answer) + 1)
            form = self._draw(request.args[0], number % 3) % (4 if "large" in self.name else 3)
            responses.append([f"It is {wrong}.", f"It is {answer}.", f"#### {wrong}", f"The sum is #### {answer}"][form])
        return responses

    def loglikelihood(self, requests: list, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        return [(-(self._draw(*request.args) % 997) / 100, False) for request in requests]

    def loglikelihood_rolling(self, requests: list, disable_tqdm: bool = False) -> list[float]:
        return [-float(len(request.args[0])) for request in requests]


def evaluate(model: str, tasks: list[str], folder: Path) -> None:
    tracker = EvaluationTracker(output_path=str(folder))
    results = lm_eval.simple_evaluate(
        model="scripted",
        model_args=f"pretrained={model},dtype=float32",
        tasks=tasks,
        task_manager=TaskManager(include_path=str(HERE / "tasks")),
        log_samples=True,
        evaluation_tracker=tracker,
        bootstrap_iters=0,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])


def tidy(folder: Path) -> None:
    """Give files fixed dates, and remove what describes the machine."""
    for number, path in enumerate(sorted(folder.rglob("results_*.json"))):
        stamp = path.stem.removeprefix("results_")
        document = json.loads(path.read_text("utf-8"))
        document = {key: document[key] for key in (*KEPT, *KEPT_NAMES) if key in document}
        document["date"] = 1767225600 + number
        for task in document["configs"].values():
            task.pop("metadata")
        path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        for file in path.parent.glob(f"*{stamp}*"):
            file.rename(file.with_name(file.name.replace(stamp, f"2026-01-01T00-00-0{number}.000000")))


if __name__ == "__main__":
    os.chdir(HERE / "tasks")  # the files of the data sets are named without a folder
    for name in ("models", "perplexity"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    for model in ("example/small-1b", "example/large-7b"):
        evaluate(model, ["sums", "capitals", "votes"], HERE / "models")
    evaluate("example/small-1b", ["wording"], HERE / "perplexity")
    for folder in ("models", "perplexity"):
        tidy(HERE / folder)
        for file in (HERE / folder).rglob("*.json*"):
            assert not re.search(re.escape(str(HERE)), file.read_text("utf-8")), file
