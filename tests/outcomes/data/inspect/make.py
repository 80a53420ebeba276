"""Makes the logs in this folder with Inspect and its mock model: python make.py, where inspect-ai is installed.

Written by inspect_ai 0.3.285. What describes the machine is removed.
"""

import shutil
from pathlib import Path

from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog, read_eval_log, write_eval_log
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, Model, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, Scorer, Target, accuracy, choice, match, scorer
from inspect_ai.solver import Generate, Solver, TaskState, generate, multiple_choice, solver

HERE = Path(__file__).parent
WORK = HERE / "work"


@scorer(metrics=[accuracy()])
def brief() -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        return Score(value="P" if len(state.output.completion) > 8 else "C")

    return score


@scorer(metrics={"*": [accuracy()]})
def style() -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        text = state.output.completion
        return Score(value={"polite": "please" in text, "length": min(len(text) / 20, 1.0)})

    return score


@solver
def fail_on(word: str) -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if word in state.input_text:
            raise ValueError("The connection was closed.")
        return state

    return solve


SUMS = [
    Sample(id="sum-1", input="What is 3 + 4?", target="7"),
    Sample(
        id="sum-2",
        input=[ChatMessageSystem(content="Be brief."), ChatMessageUser(content="What is 8 * 9?")],
        target=["72", "seventy-two"],
    ),
    Sample(id="sum-3", input="What is 100 - 1?", target="99"),
]
CAPITALS = [
    Sample(input="What is the capital of France?", choices=["Lyon", "Paris"], target="B"),
    Sample(input="What is the capital of Italy?", choices=["Rome", "Milan"], target="A"),
]


def mock(name: str, responses: list[str]) -> Model:
    outputs = []
    for number, text in enumerate(responses, 1):
        output = ModelOutput.from_content(name, text)
        output.usage = ModelUsage(input_tokens=10 + number, output_tokens=number, total_tokens=10 + 2 * number)
        outputs.append(output)
    return get_model(f"mockllm/{name}", custom_outputs=outputs)


def run(task: Task, model: str, responses: list[str], **settings: object) -> EvalLog:
    [log] = evaluate(
        task, model=mock(model, responses), log_dir=str(WORK), display="none", max_samples=1, max_connections=1, **settings
    )
    return log


def save(log: EvalLog, name: str, created: str) -> None:
    log = read_eval_log(log.location)
    log.eval.created = created
    log.eval.revision = log.eval.metadata = log.eval.task_file = None
    log.eval.dataset.location, log.eval.model_args = None, {}
    if log.error:
        log.error.traceback = log.error.traceback_ansi = ""
    for sample in log.samples or []:
        sample.events, sample.timelines = [], None
        if sample.error:
            sample.error.traceback = sample.error.traceback_ansi = ""
    write_eval_log(log, str(HERE / name))


if __name__ == "__main__":
    sums = Task(
        dataset=MemoryDataset(SUMS), solver=[generate()], scorer=[match("end"), brief(), style()], name="sums", epochs=2
    )
    broken = Task(
        dataset=MemoryDataset(SUMS), solver=[fail_on("100"), generate()], scorer=[match("end"), brief(), style()], name="sums"
    )
    capitals = Task(dataset=MemoryDataset(CAPITALS), solver=[multiple_choice()], scorer=choice(), name="capitals")
    small = ["It is 7", "7", "It is 71", "please: 72", "It is 98", "99"]
    large = ["7", "It is 7", "72", "It is 72", "It is 99", "It is 99"]
    save(run(sums, "small", small), "2026-01-01T00-00-00+00-00_sums_small.eval", "2026-01-01T00:00:00+00:00")
    save(run(sums, "large", large), "2026-01-01T00-01-00+00-00_sums_large.json", "2026-01-01T00:01:00+00:00")
    save(
        run(capitals, "small", ["ANSWER: A", "ANSWER: A"]),
        "2026-01-01T00-02-00+00-00_capitals_small.json",
        "2026-01-01T00:02:00+00:00",
    )
    save(
        run(capitals, "large", ["ANSWER: B", "ANSWER: A"]),
        "2026-01-01T00-03-00+00-00_capitals_large.eval",
        "2026-01-01T00:03:00+00:00",
    )
    save(
        run(broken, "broken", ["It is 7", "It is 72"], fail_on_error=False),
        "errors/2026-01-01T00-04-00+00-00_sums_broken.eval",
        "2026-01-01T00:04:00+00:00",
    )
    save(
        run(broken, "failed", ["It is 7", "It is 72"]),
        "errors/2026-01-01T00-05-00+00-00_sums_failed.json",
        "2026-01-01T00:05:00+00:00",
    )
    save(
        run(capitals, "small", ["ANSWER: B"], limit=1),
        "newer/2026-01-02T00-00-00+00-00_capitals_small.json",
        "2026-01-02T00:00:00+00:00",
    )
    shutil.rmtree(WORK)
