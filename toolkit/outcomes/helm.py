"""Reads runs of HELM: folders with `run_spec.json`, `scenario_state.json` and `per_instance_stats.json`.

The run's name without its model is the benchmark. Every statistic of an instance is a score, except counts of tokens, times and
the like. Trials, which differ in their examples, are samples; perturbed instances are left out.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.formats import Rows, Source
from toolkit.outcomes.reading import read_document
from toolkit.outcomes.rows import chunks

FILES = ("run_spec.json", "scenario_state.json", "per_instance_stats.json")
"""The files of a run that are read."""
MAIN_SCORES = (
    "math_equiv_chain_of_thought",
    "math_equiv",
    "final_number_exact_match",
    "ifeval_strict_accuracy",
    "chain_of_thought_correctness",
    "f1_score",
    "quasi_exact_match",
    "exact_match",
)
"""Statistics that are the main score, the first that a run has: special ones stand before those that every run has."""
_BOOKKEEPING = ("num_", "inference_", "finish_reason", "logprob", "max_prob", "training_", "batch_size", "prompt_truncated")
"""How the names of statistics begin that say nothing of quality."""

Cell = tuple[str, int]
"""Id of an instance, and number of the trial."""


class Helm:
    """The format of HELM."""

    title = "HELM"
    layout = f"folders with {', '.join(FILES)}"

    def recognizes(self, source: Source) -> bool:
        """Return whether some folder has the files of a run."""
        return bool(_folders(source))

    def read(self, source: Source) -> Iterator[Rows]:
        """Yield one row per instance, trial and run.

        Raises:
            BenchmarkError: A file is missing, or is not what HELM writes.
        """
        folders = _folders(source)
        if not folders:
            raise BenchmarkError(f"{source.label} has no run of HELM: no folder has {', '.join(FILES)}.")
        started = {path.parent for path in source.files if path.name == FILES[0]}
        incomplete = [f"the run {folder.name}, which is incomplete" for folder in sorted(started.difference(folders))]
        for folder in folders:
            try:
                for rows in _run(folder):
                    yield rows._replace(ignored=[*rows.ignored, *incomplete])
            except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
                raise BenchmarkError(
                    f"{folder} is not a run of HELM: {type(error).__name__}: {error}. Is it complete? Run helm-run again."
                ) from None


def _folders(source: Source) -> list[Path]:
    names = set(FILES)
    folders = {path.parent for path in source.files if path.name in names}
    return sorted(folder for folder in folders if all((folder / name).is_file() for name in names))


def _run(folder: Path) -> Iterator[Rows]:
    spec, state, stats = (read_document(folder / name) for name in FILES)
    model = spec["adapter_spec"]["model"]
    scores = _statistics(stats)
    states: dict[Cell, list[Mapping[str, Any]]] = {}
    n_perturbed = 0
    for request in state["request_states"]:
        if request["instance"].get("perturbation"):
            n_perturbed += 1
        else:
            states.setdefault((str(request["instance"]["id"]), int(request["train_trial_index"])), []).append(request)
    ignored = [f"{n_perturbed} perturbed requests of {folder.name}"] if n_perturbed else []
    names = dict.fromkeys(name for values in scores.values() for name in values if not name.startswith(_BOOKKEEPING))
    main = next((name for name in MAIN_SCORES if name in names), next(iter(names), None))
    for part in chunks([cell for cell in states if cell in scores]):
        values = [scores[cell] for cell in part]
        requests = [states[cell] for cell in part]
        columns: dict[str, list[Any]] = {
            "benchmark": [_benchmark(spec["name"])] * len(part),
            "item": [item for item, _ in part],
            "question": [_question(trial[0]) for trial in requests],
            "model": [model] * len(part),
            "sample": [trial for _, trial in part],
            "response": [_response(trial) for trial in requests],
            "reference": [_reference(trial[0]["instance"]) for trial in requests],
            "prompt_tokens": [row.get("num_prompt_tokens") for row in values],
            "completion_tokens": [row.get("num_completion_tokens", row.get("num_output_tokens")) for row in values],
            **({"score": [row.get(main) for row in values]} if main else {}),
            **{f"score:{name}": [row.get(name) for row in values] for name in names},
        }
        places = [f"instance {item}, trial {trial}" for item, trial in part]
        yield Rows(str(folder / FILES[1]), places, columns, ignored)


def _statistics(stats: list[Mapping[str, Any]]) -> dict[Cell, dict[str, float]]:
    """Return the means by instance and trial; metrics write one entry each, so an instance has several."""
    values: dict[Cell, dict[str, float]] = {}
    for entry in stats:
        if not entry.get("perturbation"):
            cell = values.setdefault((str(entry["instance_id"]), int(entry["train_trial_index"])), {})
            cell |= {stat["name"]["name"]: stat["mean"] for stat in entry["stats"] if stat.get("count") and "mean" in stat}
    return values


def _benchmark(name: str) -> str:
    """Return the name of a run without its model: `mmlu:subject=anatomy,model=openai_gpt2` is `mmlu:subject=anatomy`."""
    scenario, _, arguments = name.partition(":")
    parts = [part for part in arguments.split(",") if part and not part.startswith(("model=", "model_deployment="))]
    return f"{scenario}:{','.join(parts)}" if parts else scenario


def _question(state: Mapping[str, Any]) -> str:
    """Return the text of an instance, with its choices below it if the prompt has them."""
    text = str(state["instance"]["input"]["text"])
    choices = [f"{letter}. {choice}" for letter, choice in (state.get("output_mapping") or {}).items()]
    return "\n".join([text, *choices])


def _response(states: list[Mapping[str, Any]]) -> str | None:
    """Return what the model generated; None if it rated the references one by one."""
    result = states[0].get("result")
    if len(states) > 1 or states[0].get("reference_index") is not None or not result:
        return None
    return str(result["completions"][0]["text"])


def _reference(instance: Mapping[str, Any]) -> str | None:
    correct = [str(entry["output"]["text"]) for entry in instance["references"] if "correct" in entry["tags"]]
    return "\n".join(correct) if correct else None


FORMAT = Helm()
