"""What every engine promises, on the same checkpoint and prompts: answers, tokens, reasons to end, failures, cancellation.

Weights are real and their answers recomputed by plain decoding, one prompt at a time. A promise that needs weights is not
asked of the engine scripted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
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
from toolkit.engines import Completion, Engine, Failure, Prompt, open_engine
from toolkit.engines.guard import Guard, TokenBudget
from toolkit.generation.generate import generate
from toolkit.store import Cache
from toolkit.suites.config import EngineConfig, ModelConfig
from toolkit.suites.prompts import Turn, messages

QUESTIONS = ["What is 4 + 8?", "Reverse: sun, red, cold, tree, mountain, and then say why you did", "?", "Ünïcödé 你好 🙂", " "]
VLLM = [pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not installed")]
WEIGHTS = [
    "transformers",
    "openai",
    pytest.param("vllm", marks=[*VLLM, pytest.mark.filterwarnings("ignore")]),  # its own are many
]
ENGINES = [*WEIGHTS, "scripted"]


class Weights(NamedTuple):
    """A checkpoint, an adapter of it, and both merged, for servers that know no adapters."""

    plain: Path
    adapter: Path
    merged: Path


@pytest.fixture(scope="session")
def weights(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """The tiny checkpoint, which as many real ones asks to be sampled from; the suite's settings have to win."""
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


Open = Callable[..., Engine]


@pytest.fixture
def opened(request: pytest.FixtureRequest, weights: Weights, tmp_path: Path) -> Iterator[Open]:
    """Opens the engine that the test is asked for, with a model's changed fields; closes it after the test, twice."""
    engines: list[Engine] = []

    def open_one(**changes: Any) -> Engine:
        made = open_engine(*configured(request, weights, **changes), Workspace(tmp_path, tmp_path))
        engines.append(made)
        return made

    yield open_one
    for engine in engines:
        engine.close()
        engine.close()


def configured(request: pytest.FixtureRequest, weights: Weights, **changes: Any) -> tuple[EngineConfig, ModelConfig]:
    """Return the configuration of an engine, and of the model for it."""
    name = request.node.callspec.params["opened"]
    model = {"name": "m", "checkpoint": str(weights.plain), "dtype": "float32", "max_tokens": 12, "base_rate": 1.0} | changes
    engine: dict[str, Any] = {"name": name, "device": "cpu"}
    if name == "vllm":
        engine |= {"device": "auto", "vllm": {"enforce_eager": True, "kv_cache_memory_bytes": 2**27}}
    if name == "openai":
        concurrency = 1 if changes.get("temperature") else 3  # this server's random state is one for all its requests
        engine["server"] = {"url": request.getfixturevalue("server"), "concurrency": concurrency}
        model["served"] = str(weights.merged if "adapter" in changes else weights.plain)
    return EngineConfig.model_validate(engine), ModelConfig.model_validate(model)


def asked(engine: Engine, system: str | None = None) -> list[Prompt]:
    texts = [engine.render(messages("refine-v1", system, [], question, [])) for question in QUESTIONS]
    return [Prompt(text, engine.count(text), seed) for seed, text in enumerate(texts)]


def expected(checkpoint: Path, prompt: Prompt, limit: int = 12) -> Completion:
    """Decode greedily and plainly: one prompt, one token at a time, everything read anew."""
    tokenizer, model = AutoTokenizer.from_pretrained(checkpoint), AutoModelForCausalLM.from_pretrained(checkpoint)
    ids = tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
    answer: list[int] = []
    while len(answer) < limit:
        token = int(model(torch.tensor([ids + answer])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        answer.append(token)
    text = tokenizer.decode(answer, skip_special_tokens=True)
    length = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    return Completion(text, length, "length" if len(answer) == limit else "stop")


def same(given: Completion | Failure, wanted: Completion, prompt: Prompt) -> bool:
    """Compare all but who counted the prompt; who did has to agree."""
    assert isinstance(given, Completion), given
    assert given.prompt_tokens in (None, prompt.tokens)
    return given._replace(prompt_tokens=None) == wanted


@pytest.mark.parametrize("opened", WEIGHTS, indirect=True)
def test_prompts_are_the_chat_template_s_and_their_length_the_tokenizer_s(opened: Open, weights: Weights) -> None:
    template = "{{ mood }}|{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}|{% endfor %}"
    chat = messages("refine-v1", "Be brief.", [Turn("Hi, ü?", "Hö.")], "Why?", ["No.", "Yes."])
    given = opened(chat_template=template, chat_template_args={"mood": "calm"})
    assert given.render(chat).startswith("calm|system: Be brief.|user: Hi, ü?|assistant: Hö.|user: Earlier answers")
    tokenizer, engine = AutoTokenizer.from_pretrained(weights.plain), opened()
    ids = tokenizer.apply_chat_template(list(chat), add_generation_prompt=True, return_dict=False)
    assert tokenizer(engine.render(chat), add_special_tokens=False)["input_ids"] == ids
    assert engine.count(engine.render(chat)) == len(ids)


@pytest.mark.parametrize("opened", WEIGHTS, indirect=True)
@pytest.mark.parametrize(
    "changes", [{}, {"max_tokens": 3}, {"system_prompt": "A system prompt that all of the prompts begin with, read once."}]
)
def test_a_batch_is_answered_as_plain_greedy_decoding_does(opened: Open, weights: Weights, changes: dict[str, Any]) -> None:
    engine = opened(**changes)
    prompts = asked(engine, changes.get("system_prompt"))
    answers = engine.generate(prompts)
    wanted = [expected(weights.plain, prompt, changes.get("max_tokens", 12)) for prompt in prompts]
    assert all(map(same, answers, wanted, prompts))
    assert any(answer.finish_reason == "length" for answer in wanted)


@pytest.mark.parametrize("opened", ENGINES, indirect=True)
def test_tokens_are_counted_and_long_answers_cut(opened: Open) -> None:
    engine = opened(max_tokens=1)
    for answer in engine.generate(asked(engine)):
        assert isinstance(answer, Completion)
        assert answer.completion_tokens == engine.count(answer.response)
        assert answer.finish_reason == "length"


@pytest.mark.parametrize("opened", ENGINES, indirect=True)
def test_a_stop_string_ends_an_answer_and_is_not_part_of_it(opened: Open) -> None:
    engine = opened()
    prompts = asked(engine)
    whole = [answer for answer in engine.generate(prompts) if isinstance(answer, Completion)]
    for stop in (whole[0].response[2:5], whole[0].response[0]):
        stopping = opened(stop=[stop, "never said"])
        answers = stopping.generate(prompts)
        assert len(answers) == len(whole)
        for free, stopped in zip(whole, answers, strict=True):
            assert isinstance(stopped, Completion)
            before, found, _ = free.response.partition(stop)
            assert stopped.response == before
            assert stopped.finish_reason == ("stop" if found else free.finish_reason)
            assert stopped.completion_tokens == engine.count(before)
    assert (stopped := answers[0]) == Completion("", 0, "stop", stopped.prompt_tokens)  # type: ignore[union-attr]


@pytest.mark.parametrize("opened", ENGINES, indirect=True)
def test_sampling_follows_from_the_prompt_s_seed_and_not_from_its_batch(opened: Open) -> None:
    engine = opened(temperature=1.5, top_p=0.9)
    prompts = asked(engine)
    together = engine.generate(prompts)
    assert [engine.generate([prompt])[0] for prompt in reversed(prompts)] == list(together)[::-1]
    others = engine.generate([prompt._replace(seed=prompt.seed + 1000) for prompt in prompts])
    assert sum(one != other for one, other in zip(together, others, strict=True)) > len(prompts) / 2


@pytest.mark.parametrize("opened", ENGINES, indirect=True)
def test_the_same_prompt_twice_in_a_batch_is_answered_twice_alike(opened: Open) -> None:
    engine = opened()
    (prompt, *_) = asked(engine)
    one, other = engine.generate([prompt, prompt])
    assert one == other
    assert isinstance(one, Completion)


@pytest.mark.parametrize("opened", WEIGHTS, indirect=True)
def test_a_prompt_may_fill_the_context_to_the_last_token(opened: Open, weights: Weights) -> None:
    assert opened().context_length == 256  # the checkpoint's
    engine = opened(context_length=100)
    assert engine.context_length == 100
    tokenizer = AutoTokenizer.from_pretrained(weights.plain)
    text = tokenizer.decode(tokenizer("What is the capital of France? " * 20, add_special_tokens=False)["input_ids"][:88])
    prompt = Prompt(text, engine.count(text), 0)
    assert prompt.tokens == 88
    (answer,) = engine.generate([prompt])
    assert same(answer, expected(weights.plain, prompt), prompt)


@pytest.mark.parametrize("opened", WEIGHTS, indirect=True)
def test_an_adapter_changes_the_answers_as_its_merged_weights_do(opened: Open, weights: Weights) -> None:
    engine = opened(adapter=str(weights.adapter))
    prompts = asked(engine)
    wanted = [expected(weights.merged, prompt) for prompt in prompts]
    assert all(map(same, engine.generate(prompts), wanted, prompts))
    assert wanted != [expected(weights.plain, prompt) for prompt in prompts]


@pytest.mark.parametrize("opened", ENGINES, indirect=True)
def test_a_prompt_that_cannot_be_answered_fails_alone_and_for_good(opened: Open) -> None:
    engine = opened()
    prompts = asked(engine)
    alone = list(engine.generate(prompts))
    poisoned = [*prompts[:2], Prompt("half of a character: \ud800", 9, 9), *prompts[2:]]
    outcomes = Guard(opened, 12, TokenBudget(10_000), 600).generate(poisoned)
    culprit = outcomes.pop(2)
    assert outcomes == alone
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


@pytest.mark.parametrize("opened", ENGINES, indirect=True)
def test_a_run_that_is_stopped_keeps_what_it_has_and_goes_on_to_the_same_cache(
    opened: Open, request: pytest.FixtureRequest, weights: Weights, tmp_path: Path
) -> None:
    engine, model = configured(request, weights, context_length=200, max_tokens=6)
    given = json.loads(model.model_dump_json(exclude_none=True))
    pool = [given | {"name": name, "system_prompt": name} for name in ("one", "two")]
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


@pytest.mark.parametrize("opened", WEIGHTS[1:], indirect=True)
def test_a_cache_does_not_depend_on_the_engine(
    opened: Open, request: pytest.FixtureRequest, weights: Weights, tmp_path: Path
) -> None:
    engine, model = configured(request, weights, context_length=200, max_tokens=6)
    caches = []
    for one in (engine, EngineConfig(device="cpu")):
        pool = [json.loads(model.model_dump_json(exclude_none=True))]
        benchmarks = [{"name": "addition", "limit": 3}, {"name": "geography", "limit": 3}]
        config = suite_config(models=pool, benchmarks=benchmarks, engine=one.model_dump())
        caches.append(Cache(tmp_path / f"{one.name}.duckdb"))
        generate(resolve_config(config, tmp_path), caches[-1], Workspace(tmp_path, tmp_path), encode=encode)
    theirs, ours = map(content, caches)
    for row in (*theirs["generations"], *ours["generations"]):
        del row["finish_reason"]  # this server calls an answer cut whose end mark is the last token that it may have
    assert len(ours["generations"]) == 12
    for table in ("models", "generations", "nodes", "scores"):
        assert ours[table] == theirs[table]
