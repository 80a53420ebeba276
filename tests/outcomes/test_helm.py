"""Runs in the layout of HELM: its field names and files, with texts and statistics written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.formats import Rows, find_files
from toolkit.outcomes.helm import FORMAT

QUESTIONS = {"id1": ("Which of these melts?", ("sand", "ice"), "B"), "id2": ("Which of these sinks?", ("lead", "oak"), "A")}
RESPONSES = {"openai/gpt2": {"id1": "B", "id2": "B"}, "org/large": {"id1": "B", "id2": " A"}}


def stat(name: str, value: float) -> dict[str, Any]:
    return {"name": {"name": name, "split": "test"}, "count": 1, "sum": value, "mean": value}


def instance(item: str, **more: Any) -> dict[str, Any]:
    text, choices, correct = QUESTIONS[item]
    references = [
        {"output": {"text": choice}, "tags": ["correct"] if letter == correct else []}
        for letter, choice in zip("AB", choices, strict=True)
    ]
    return {"input": {"text": text}, "references": references, "split": "test", "id": item} | more


def state(item: str, response: str, **more: Any) -> dict[str, Any]:
    return {
        "instance": instance(item),
        "train_trial_index": 0,
        "output_mapping": dict(zip("AB", QUESTIONS[item][1], strict=True)),
        "request": {"model": "m", "prompt": f"An example.\n\n{QUESTIONS[item][0]}"},
        "result": {"success": True, "completions": [{"text": response, "logprob": -1.0, "tokens": []}]},
    } | more


def write(folder: Path, states: list[dict[str, Any]], stats: list[dict[str, Any]], model: str) -> Path:
    path = folder / f"mmlu:subject=physics,method=multiple_choice_joint,model={model.replace('/', '_')}"
    path.mkdir(parents=True)
    (path / "run_spec.json").write_text(json.dumps({"name": path.name, "adapter_spec": {"model": model}}), "utf-8")
    (path / "scenario_state.json").write_text(json.dumps({"request_states": states}), "utf-8")
    (path / "per_instance_stats.json").write_text(json.dumps(stats), "utf-8")
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for model, responses in RESPONSES.items():
        states = [state(item, response) for item, response in responses.items()]
        stats: list[dict[str, Any]] = []
        for item, response in responses.items():
            correct = QUESTIONS[item][2]
            matches = [stat("exact_match", response == correct), stat("quasi_exact_match", response.strip() == correct)]
            stats.append({"instance_id": item, "train_trial_index": 0, "stats": matches})
            tokens = [stat("num_prompt_tokens", 12.0), stat("num_output_tokens", 1.0), stat("inference_runtime", 0.5)]
            stats.append({"instance_id": item, "train_trial_index": 0, "stats": tokens})
        perturbed = {"name": "typos"}
        states.append(state("id1", "A", instance=instance("id1", perturbation=perturbed)))
        entry = {"instance_id": "id1", "train_trial_index": 0, "perturbation": perturbed, "stats": [stat("exact_match", 0.0)]}
        write(tmp_path / "suite", states, [*stats, entry], model)
    return tmp_path / "suite"


def read(path: Path) -> list[Rows]:
    return list(FORMAT.read(find_files([str(path)])))


def test_runs_of_several_models_are_read(runs: Path) -> None:
    parts = read(runs)
    assert {part.columns["model"][0] for part in parts} == set(RESPONSES)
    for part in parts:
        columns = part.columns
        responses = RESPONSES[columns["model"][0]]
        assert columns["benchmark"] == ["mmlu:subject=physics,method=multiple_choice_joint"] * 2
        assert dict(zip(columns["item"], columns["response"], strict=True)) == responses
        assert columns["question"] == [
            "Which of these melts?\nA. sand\nB. ice",
            "Which of these sinks?\nA. lead\nB. oak",
        ]
        assert columns["reference"] == ["ice", "lead"]
        letters = [QUESTIONS[item][2] for item in columns["item"]]
        assert columns["score:exact_match"] == [responses[i] == x for i, x in zip(columns["item"], letters, strict=True)]
        assert columns["score"] == columns["score:quasi_exact_match"]
        assert columns["score"] == [responses[i].strip() == x for i, x in zip(columns["item"], letters, strict=True)]
        assert (columns["prompt_tokens"], columns["completion_tokens"]) == ([12.0, 12.0], [1.0, 1.0])
        assert not [name for name in columns if name.startswith(("score:num_", "score:inference_"))]
        assert len(part.ignored) == 1
        assert part.ignored[0].startswith("1 perturbed requests of mmlu:")


def test_rated_references_give_no_response_and_trials_are_samples(tmp_path: Path) -> None:
    states = [state("id1", "x", reference_index=number) for number in range(2)]
    states += [state("id1", "B", train_trial_index=1)]
    stats = [
        {"instance_id": "id1", "train_trial_index": trial, "stats": [stat("exact_match", trial), stat("f1_score", 0.5)]}
        for trial in range(2)
    ]
    [part] = read(write(tmp_path, states, stats, "m"))
    assert (part.columns["sample"], part.columns["response"]) == ([0, 1], [None, "B"])
    assert (part.columns["score"], part.columns["score:exact_match"]) == ([0.5, 0.5], [0, 1])


def test_malformed_and_truncated_runs_are_refused_with_their_file(runs: Path) -> None:
    folder = next(runs.iterdir())
    state_file = folder / "scenario_state.json"
    content = state_file.read_text("utf-8")
    state_file.write_text(content[:-30], "utf-8")
    with pytest.raises(BenchmarkError, match=r"scenario_state\.json is not JSON"):
        read(runs)
    for text in (content.replace('"completions"', '"x"'), content.replace('"request_states"', '"x"'), "[]"):
        state_file.write_text(text, "utf-8")
        with pytest.raises(BenchmarkError, match=r"is not a run of HELM: \w+Error: ") as error:
            read(runs)
        assert folder.name in str(error.value)


def test_only_runs_are_recognized(runs: Path, tmp_path: Path) -> None:
    assert FORMAT.recognizes(find_files([str(runs)]))
    next(runs.iterdir()).joinpath("scenario_state.json").unlink()
    assert FORMAT.recognizes(find_files([str(runs)]))
    [rows] = read(runs)
    assert sum("which is incomplete" in name for name in rows.ignored) == 1
    (tmp_path / "wide.csv").write_text("sample_id,prompt,eval_name,gpt-4\nx.0,Q,x,1.0\n", "utf-8")
    assert not FORMAT.recognizes(find_files([str(tmp_path / "wide.csv")]))
    assert not FORMAT.recognizes(find_files([str(Path(__file__).parent / "data/lm_eval")]))
    with pytest.raises(BenchmarkError, match=r"wide\.csv has no run of HELM"):
        read(tmp_path / "wide.csv")
