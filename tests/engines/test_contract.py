"""The contract of every engine, on the same checkpoint and prompts: responses, tokens, finish reasons, failures, cancellation.

The weights are real, and their responses are recomputed by plain decoding, one prompt at a time. Tests that need weights leave
out the engine scripted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests import tiny
from tests.content import content
from tests.scripted import encode, resolve_config, suite_config
from toolkit.core.progress import NoProgress
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Engine, Failure, Outcome, Prompt, open_engine
from toolkit.engines.guard import GuardedEngine, TokenBudget
from toolkit.generation.generate import generate
from toolkit.store import Cache
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import Example, ModelConfig
from toolkit.suites.prompts import messages

QUESTIONS = ["What is 4 + 8?", "Reverse: sun, red, cold, tree, mountain, and then say why you did", "?", "Ünïcödé 你好 🙂", " "]
VLLM = [pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not installed")]
WEIGHTS = [
    "transformers",
    "openai",
    pytest.param("vllm", marks=[*VLLM, pytest.mark.filterwarnings("ignore")]),  # vLLM warns a lot
]
ENGINES = [*WEIGHTS, "scripted"]


class Weights(NamedTuple):
    """A checkpoint, an adapter for it, and both merged, for servers without adapters."""

    plain: Path
    adapter: Path
    merged: Path


@pytest.fixture(scope="session")
def weights(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """The tiny checkpoint, whose generation settings ask for sampling, as many real ones do; the suite's settings must win."""
    folder = tmp_path_factory.mktemp("contract")
    tokenizer, model = AutoTokenizer.from_pretrained(llama), AutoModelForCausalLM.from_pretrained(llama)
    model.generation_config.do_sample = True
    model.save_pretrained(folder / "plain")
    tokenizer.save_pretrained(folder / "plain")
    adapter = tiny.make_adapter(folder / "adapter", folder / "plain")
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / "plain"), adapter).merge_and_unload()
    merged.save_pretrained(folder / "merged")
    tokenizer.save_pretrained(folder / "merged")
    return Weights(folder / "plain", adapter, folder / "merged")


OpenWith = Callable[..., Engine]
"""Opens the engine under test, with fields of the model changed."""


@pytest.fixture
def open_with(request: pytest.FixtureRequest, weights: Weights, tmp_path: Path) -> Iterator[OpenWith]:
    """Open engines of the kind that is the fixture's parameter; close each twice after the test."""
    engines: list[Engine] = []

    def open_with(**changes: Any) -> Engine:
        engine = open_engine(*configured(request, weights, **changes), Workspace(tmp_path, tmp_path))
        engines.append(engine)
        return engine

    yield open_with
    for engine in engines:
        engine.close()
        engine.close()


def configured(request: pytest.FixtureRequest, weights: Weights, **changes: Any) -> tuple[EngineConfig, ModelConfig]:
    """Return the configuration of the engine under test and of a model for it."""
    name = request.node.callspec.params["open_with"]
    model = {"name": "m", "checkpoint": str(weights.plain), "dtype": "float32", "max_tokens": 12, "base_rate": 1.0} | changes
    engine: dict[str, Any] = {"name": name, "device": "cpu"}
    if name == "vllm":
        engine |= {"device": "auto", "vllm": {"enforce_eager": True, "kv_cache_memory_bytes": 2**27}}
    if name == "openai":
        concurrency = 1 if changes.get("temperature") else 3  # all requests share this server's random state
        engine["server"] = {"url": request.getfixturevalue("server"), "concurrency": concurrency}
        model["served"] = str(weights.merged if "adapter" in changes else weights.plain)
    return EngineConfig.model_validate(engine), ModelConfig.model_validate(model)


def make_prompts(engine: Engine, system: str | None = None) -> list[Prompt]:
    texts = [engine.render(messages("refine-v1", system, [], question, [])) for question in QUESTIONS]
    return [Prompt(text, engine.count(text), seed) for seed, text in enumerate(texts)]


def expected(checkpoint: Path, prompt: Prompt, limit: int = 12) -> Completion:
    """Decode greedily in the plainest way: one prompt, one token at a time, no cached keys and values."""
    tokenizer, model = AutoTokenizer.from_pretrained(checkpoint), AutoModelForCausalLM.from_pretrained(checkpoint)
    ids = tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
    tokens: list[int] = []
    while len(tokens) < limit:
        token = int(model(torch.tensor([ids + tokens])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        tokens.append(token)
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    length = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    return Completion(text, length, "length" if len(tokens) == limit else "stop")


def generated(engine: Engine, prompts: Sequence[Prompt]) -> list[Outcome]:
    """Return the outcomes without the cached tokens, which depend on the rest of the batch, after a check of their number."""
    outcomes = engine.generate(prompts)
    for outcome, prompt in zip(outcomes, prompts, strict=True):
        assert isinstance(outcome, Failure) or 0 <= (outcome.cached_tokens or 0) <= prompt.tokens
    return [outcome._replace(cached_tokens=None) if isinstance(outcome, Completion) else outcome for outcome in outcomes]


def same(outcome: Outcome, reference: Completion, prompt: Prompt) -> bool:
    """Compare an outcome with the reference; an engine that counts the prompt has to count right."""
    assert isinstance(outcome, Completion), outcome
    assert outcome.prompt_tokens in (None, prompt.tokens)
    return outcome._replace(prompt_tokens=None) == reference


@pytest.mark.parametrize("open_with", WEIGHTS, indirect=True)
def test_prompts_follow_the_chat_template_and_are_counted_by_the_tokenizer(open_with: OpenWith, weights: Weights) -> None:
    template = "{{ mood }}|{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}|{% endfor %}"
    chat = messages("refine-v1", "Be brief.", [Example(user="Hi, ü?", assistant="Hö.")], "Why?", ["No.", "Yes."])
    templated = open_with(chat_template=template, chat_template_args={"mood": "calm"})
    assert templated.render(chat).startswith("calm|system: Be brief.|user: Hi, ü?|assistant: Hö.|user: Earlier answers")
    tokenizer, engine = AutoTokenizer.from_pretrained(weights.plain), open_with()
    ids = tokenizer.apply_chat_template(list(chat), add_generation_prompt=True, return_dict=False)
    assert tokenizer(engine.render(chat), add_special_tokens=False)["input_ids"] == ids
    assert engine.count(engine.render(chat)) == len(ids)


@pytest.mark.parametrize("open_with", WEIGHTS, indirect=True)
@pytest.mark.parametrize(
    "changes",
    [{}, {"max_tokens": 3}, {"system_prompt": "A system prompt with which all prompts begin, read once."}],
)
def test_a_batch_gets_the_responses_of_plain_greedy_decoding(
    open_with: OpenWith, weights: Weights, changes: dict[str, Any]
) -> None:
    engine = open_with(**changes)
    prompts = make_prompts(engine, changes.get("system_prompt"))
    outcomes = generated(engine, prompts)
    references = [expected(weights.plain, prompt, changes.get("max_tokens", 12)) for prompt in prompts]
    assert all(map(same, outcomes, references, prompts))
    assert any(reference.finish_reason == "length" for reference in references)


@pytest.mark.parametrize("open_with", ENGINES, indirect=True)
def test_tokens_are_counted_and_long_responses_are_cut_off(open_with: OpenWith) -> None:
    engine = open_with(max_tokens=1)
    for outcome in engine.generate(make_prompts(engine)):
        assert isinstance(outcome, Completion)
        assert outcome.completion_tokens == engine.count(outcome.response)
        assert outcome.finish_reason == "length"


@pytest.mark.parametrize("open_with", ENGINES, indirect=True)
def test_a_stop_string_ends_a_response_and_is_not_part_of_it(open_with: OpenWith) -> None:
    engine = open_with()
    prompts = make_prompts(engine)
    unstopped = [outcome for outcome in engine.generate(prompts) if isinstance(outcome, Completion)]
    for stop in (unstopped[0].response[2:5], unstopped[0].response[0]):
        outcomes = generated(open_with(stop=[stop, "never generated"]), prompts)
        assert len(outcomes) == len(unstopped)
        for whole, stopped in zip(unstopped, outcomes, strict=True):
            assert isinstance(stopped, Completion)
            before, separator, _ = whole.response.partition(stop)
            assert stopped.response == before
            assert stopped.finish_reason == ("stop" if separator else whole.finish_reason)
            assert stopped.completion_tokens == engine.count(before)
    assert (stopped := outcomes[0]) == Completion("", 0, "stop", stopped.prompt_tokens)  # type: ignore[union-attr]


@pytest.mark.parametrize("open_with", ENGINES, indirect=True)
def test_sampling_depends_on_the_prompt_s_seed_and_not_on_its_batch(open_with: OpenWith) -> None:
    engine = open_with(temperature=1.5, top_p=0.9)
    prompts = make_prompts(engine)
    together = generated(engine, prompts)
    assert [generated(engine, [prompt])[0] for prompt in reversed(prompts)] == together[::-1]
    others = generated(engine, [prompt._replace(seed=prompt.seed + 1000) for prompt in prompts])
    assert sum(before != after for before, after in zip(together, others, strict=True)) > len(prompts) / 2


@pytest.mark.parametrize("open_with", ENGINES, indirect=True)
def test_equal_prompts_in_a_batch_get_equal_responses(open_with: OpenWith) -> None:
    engine = open_with()
    (prompt, *_) = make_prompts(engine)
    first, second = generated(engine, [prompt, prompt])
    assert first == second
    assert isinstance(first, Completion)


@pytest.mark.parametrize("open_with", WEIGHTS, indirect=True)
def test_a_prompt_may_fill_the_context_to_the_last_token(open_with: OpenWith, weights: Weights) -> None:
    assert open_with().context_length == 256  # the checkpoint's
    engine = open_with(context_length=100)
    assert engine.context_length == 100
    tokenizer = AutoTokenizer.from_pretrained(weights.plain)
    text = tokenizer.decode(tokenizer("What is the capital of France? " * 20, add_special_tokens=False)["input_ids"][:88])
    prompt = Prompt(text, engine.count(text), 0)
    assert prompt.tokens == 88
    (outcome,) = generated(engine, [prompt])
    assert same(outcome, expected(weights.plain, prompt), prompt)


@pytest.mark.parametrize("open_with", WEIGHTS, indirect=True)
def test_an_adapter_responds_as_its_merged_weights_do(open_with: OpenWith, weights: Weights) -> None:
    engine = open_with(adapter=str(weights.adapter))
    prompts = make_prompts(engine)
    references = [expected(weights.merged, prompt) for prompt in prompts]
    assert all(map(same, generated(engine, prompts), references, prompts))
    assert references != [expected(weights.plain, prompt) for prompt in prompts]


@pytest.mark.parametrize("open_with", ENGINES, indirect=True)
def test_an_impossible_prompt_fails_alone_and_for_good(open_with: OpenWith) -> None:
    engine = open_with()
    prompts = make_prompts(engine)
    undisturbed = generated(engine, prompts)
    poisoned = [*prompts[:2], Prompt("half of a character: \ud800", 9, 9), *prompts[2:]]
    outcomes = GuardedEngine(open_with, 12, TokenBudget(10_000), 600).generate(poisoned)
    culprit = outcomes.pop(2)
    assert [outcome and outcome._replace(cached_tokens=None) for outcome in outcomes] == undisturbed  # type: ignore[call-arg]
    assert isinstance(culprit, Failure)
    assert not culprit.transient
    assert culprit.reason


class Impatient(NoProgress):
    """Stops after the first batch."""

    committed = 0

    def advance(self, nodes: int) -> None:
        self.committed += nodes

    def stopped(self) -> bool:
        return self.committed > 0


@pytest.mark.parametrize("open_with", ENGINES, indirect=True)
def test_a_stopped_run_keeps_what_it_has_and_continues_to_the_same_cache(
    open_with: OpenWith, request: pytest.FixtureRequest, weights: Weights, tmp_path: Path
) -> None:
    engine, model = configured(request, weights, context_length=200, max_tokens=6)
    fields = json.loads(model.model_dump_json(exclude_none=True))
    pool = [fields | {"name": name, "system_prompt": name} for name in ("one", "two")]
    benchmarks = [{"name": "addition", "limit": 3}, {"name": "geography", "limit": 3}]
    settings = engine.model_dump() | {"batch_tokens": 400}
    suite = resolve_config(suite_config(models=pool, benchmarks=benchmarks, engine=settings), tmp_path)
    stopped, whole = Cache(tmp_path / "stopped.duckdb"), Cache(tmp_path / "whole.duckdb")
    first = generate(suite, stopped, Workspace(tmp_path, tmp_path), progress=Impatient(), encode=encode)
    assert first.stopped
    assert 0 < stopped.arrow("FROM nodes WHERE depth > 0").num_rows < 36
    second = generate(suite, stopped, Workspace(tmp_path, tmp_path), encode=encode)
    report = generate(suite, whole, Workspace(tmp_path, tmp_path), encode=encode)
    assert first.generated + second.generated == report.generated > 0
    assert content(stopped) == content(whole)


@pytest.mark.parametrize("open_with", WEIGHTS[1:], indirect=True)
def test_a_cache_does_not_depend_on_the_engine(
    open_with: OpenWith, request: pytest.FixtureRequest, weights: Weights, tmp_path: Path
) -> None:
    engine, model = configured(request, weights, context_length=200, max_tokens=6)
    caches = []
    for config in (engine, EngineConfig(device="cpu")):
        pool = [json.loads(model.model_dump_json(exclude_none=True))]
        benchmarks = [{"name": "addition", "limit": 3}, {"name": "geography", "limit": 3}]
        suite = resolve_config(suite_config(models=pool, benchmarks=benchmarks, engine=config.model_dump()), tmp_path)
        caches.append(Cache(tmp_path / f"{config.name}.duckdb"))
        generate(suite, caches[-1], Workspace(tmp_path, tmp_path), encode=encode)
    theirs, ours = map(content, caches)
    for row in (*theirs["generations"], *ours["generations"]):
        del row["finish_reason"]  # this server reports length if the end token is the last token allowed
    assert len(ours["generations"]) == 12
    for table in ("models", "generations", "nodes", "scores"):
        assert ours[table] == theirs[table]
