"""The transformers engine on a real checkpoint in the hub's format, made small."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, MambaConfig, MistralConfig, PretrainedConfig

from tests import tiny
from toolkit.core.background import in_background
from toolkit.core.errors import CheckpointError, EngineError
from toolkit.core.workspace import Workspace
from toolkit.engines import BatchTooLargeError, Engine, Prompt, decoding
from toolkit.engines.decoding import TokenChooser
from toolkit.engines.guard import GuardedEngine, TokenBudget
from toolkit.engines.kv_cache import SegmentCache
from toolkit.engines.transformers import TransformersEngine
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import ModelConfig
from toolkit.suites.prompts import Message

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
QUESTIONS = ["What is 4 + 8?", "What is the capital of France?", "Reverse: sun, red, cold, tree, mountain", "?", "Ünïcödé 你好"]


def open_model(checkpoint: Path, folder: Path, **changes: Any) -> TransformersEngine:
    model = {"name": "tiny", "checkpoint": str(checkpoint), "dtype": "float32", "max_tokens": 12, "base_rate": 1.0}
    return TransformersEngine(
        EngineConfig(device="cpu"), ModelConfig.model_validate(model | changes), Workspace(folder, folder)
    )


@pytest.fixture
def engine(llama: Path, tmp_path: Path) -> Iterator[TransformersEngine]:
    engine = open_model(llama, tmp_path)
    yield engine
    engine.close()


def prompts(engine: Engine, questions: list[str] = QUESTIONS, system: str = "") -> list[Prompt]:
    start: list[Message] = [{"role": "system", "content": system}] if system else []
    texts = [engine.render([*start, {"role": "user", "content": question}]) for question in questions]
    return [Prompt(text, engine.count(text), seed) for seed, text in enumerate(texts)]


def test_a_prompt_follows_the_chat_template_and_is_counted_by_the_tokenizer(engine: TransformersEngine, llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama)
    chat = [{"role": "user", "content": "Ünïcödé?"}]
    expected = tokenizer.apply_chat_template(chat, tokenize=True, add_generation_prompt=True, return_dict=False)
    (prompt,) = prompts(engine, ["Ünïcödé?"])
    assert tokenizer(prompt.text, add_special_tokens=False)["input_ids"] == expected
    assert prompt.tokens == len(expected)


@pytest.mark.parametrize("system", ["", "A long system prompt with which all of these prompts begin, so that it is read once."])
def test_a_batch_gets_the_responses_of_plain_greedy_decoding_one_at_a_time(
    engine: TransformersEngine, llama: Path, system: str
) -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(llama), AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    batch = prompts(engine, system=system)
    reasons = set()
    for prompt, completion in zip(batch, engine.generate(batch), strict=True):
        ids = tokenizer(prompt.text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        tokens: list[int] = []
        for _ in range(12):
            tokens.append(int(model(torch.tensor([ids[0].tolist() + tokens])).logits[0, -1].argmax()))
            if tokens[-1] == tokenizer.eos_token_id:
                break
        stopped = tokens[-1] == tokenizer.eos_token_id
        text = tokenizer.decode(tokens[:-1] if stopped else tokens, skip_special_tokens=True)
        assert completion.response == text
        assert completion.finish_reason == ("stop" if stopped else "length")
        assert completion.completion_tokens == len(tokenizer(text, add_special_tokens=False)["input_ids"])
        reasons.add(completion.finish_reason)
    assert "length" in reasons


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=256),  # learned positions: padding must not count
        MistralConfig(**SMALL, sliding_window=16),  # a sliding window of keys and values
        MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=4),  # no keys and values
    ],
)
def test_other_architectures_respond_to_a_batch_as_to_single_prompts(
    config: PretrainedConfig, llama: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama)
    torch.manual_seed(0)
    config.update({"vocab_size": len(tokenizer), "initializer_range": 0.5, "eos_token_id": tokenizer.eos_token_id})
    config.update({"bos_token_id": None, "pad_token_id": tokenizer.pad_token_id})
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    engine = open_model(tmp_path / "other", tmp_path, context_length=256)
    batch = prompts(engine, system="The beginning of all these prompts.")
    completions = engine.generate(batch)
    for prompt, completion in zip(batch, completions, strict=True):
        ids = tokenizer(prompt.text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        text = tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
        assert completion.response == text
    assert len({completion.response for completion in completions}) > 1


def test_finished_rows_and_padding_cost_no_computation(llama: Path, tmp_path: Path) -> None:
    """A model reads every token of every prompt and response once, and little more."""
    engine = open_model(llama, tmp_path, max_tokens=40, stop=[" ", "e", "a"])
    batch = prompts(engine, ["?", "Why? " * 30, *QUESTIONS, *(f"What is {n} + 8?" for n in range(20))], "Be brief. " * 4)
    tokens_read = 0

    def count(model: Any, args: Any, keywords: dict[str, Any]) -> None:
        nonlocal tokens_read
        tokens_read += keywords["input_ids"].numel()

    engine.generate(batch[:1])
    model = engine._load().model
    model.register_forward_pre_hook(count, with_kwargs=True)
    lengths = [completion.completion_tokens for completion in engine.generate(batch)]
    columns = zip(*(engine.tokenizer(prompt.text)["input_ids"] for prompt in batch), strict=False)
    shared = next(n for n, column in enumerate(columns) if len(set(column)) > 1)
    assert shared > 16
    assert min(lengths) < 5 < 30 < max(lengths)
    needed = shared + sum(prompt.tokens - shared for prompt in batch) + sum(lengths)
    assert tokens_read < 1.2 * needed
    width = max(prompt.tokens for prompt in batch) - shared
    assert tokens_read < 0.5 * (shared + len(batch) * (width + 40))


def tree_prompts(engine: TransformersEngine) -> list[Prompt]:
    """Return the prompts of a third hop: nine of each question, three of which share a first response."""
    letters = "abc"
    questions = [
        f"Why is the number {n} so special to all of us? {'x' * n} {first * (5 + n)} {second * (7 + ord(first) % 5)}"
        for n in range(6)
        for first in letters
        for second in letters
    ]
    return sorted(prompts(engine, questions, "Answer in one word, please."), key=lambda prompt: prompt.text)


@pytest.mark.parametrize("rows", [1, 4, 13, 54])
def test_waiting_prompts_take_the_places_of_finished_rows(rows: int, llama: Path, tmp_path: Path) -> None:
    engine = open_model(llama, tmp_path, max_tokens=24, stop=[" ", "e"])
    batch = tree_prompts(engine)
    alone = [engine.generate([prompt])[0]._replace(cached_tokens=None) for prompt in batch]
    longest = max(prompt.tokens for prompt in batch) + 24
    engine.batch_tokens = rows * longest
    most, passes = 0, 0

    def count(model: Any, args: Any, keywords: dict[str, Any]) -> None:
        nonlocal most, passes
        if keywords["input_ids"].shape[1] == 1 and keywords["past_key_values"].get_seq_length():
            most, passes = max(most, len(keywords["input_ids"])), passes + 1

    engine._load().model.register_forward_pre_hook(count, with_kwargs=True)
    completions = engine.generate(batch)
    assert [completion._replace(cached_tokens=None) for completion in completions] == alone
    steps = [completion.completion_tokens for completion in completions]
    assert most <= rows * longest // min(prompt.tokens for prompt in batch)
    assert passes <= sum(steps) + len(batch)
    assert len(set(steps)) > 2
    if 1 < rows < len(batch):  # a batch that waits for its longest response would take more steps
        starts = range(0, len(batch), rows)
        assert passes < sum(max(steps[start : start + rows]) for start in starts)


def test_tokens_that_siblings_share_are_read_once_even_if_they_start_at_different_times(llama: Path, tmp_path: Path) -> None:
    engine = open_model(llama, tmp_path, max_tokens=8)
    batch = tree_prompts(engine)
    texts = [engine.tokenizer(prompt.text, add_special_tokens=False)["input_ids"] for prompt in batch]
    distinct = len({tuple(ids[:end]) for ids in texts for end in range(1, len(ids) + 1)})
    engine.batch_tokens = 5 * (max(map(len, texts)) + 8)
    n_read = 0

    def count(model: Any, args: Any, keywords: dict[str, Any]) -> None:
        nonlocal n_read
        n_read += keywords["input_ids"].numel() if isinstance(keywords["past_key_values"], SegmentCache) else 0

    engine.generate(batch[:1])
    engine._load().model.register_forward_pre_hook(count, with_kwargs=True)
    cached = [completion.cached_tokens or 0 for completion in engine.generate(batch)]
    total = sum(map(len, texts))
    assert n_read == total - sum(cached)
    assert distinct <= total - sum(cached) < 1.3 * distinct < 0.7 * total


def test_an_allocation_that_fails_is_a_batch_too_large(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = prompts(engine)
    whole = engine.generate(batch)
    model = engine._load().model
    forward = model.forward

    def limited(input_ids: Any, **rest: Any) -> Any:
        if len(input_ids) > 1:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
        return forward(input_ids=input_ids, **rest)

    monkeypatch.setattr(model, "forward", limited)
    with pytest.raises(BatchTooLargeError):
        engine.generate(batch)
    budget = TokenBudget(10_000)
    assert GuardedEngine(lambda: engine, 12, budget, 600).generate(batch) == whole
    assert budget.tokens < 10_000


def test_a_batch_that_does_not_fit_into_memory_frees_what_it_had_allocated(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The halves of a batch have the memory that the whole of it had."""
    batch = sorted(prompts(engine), key=lambda prompt: -prompt.tokens)
    engine.generate(batch)
    model = engine._load().model
    forward = model.forward
    allocated: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []

    def exhausted(input_ids: Any, **rest: Any) -> Any:
        alive.append(sum(reference() is not None for reference in allocated))
        output = forward(input_ids=input_ids, **rest)
        allocated.extend(map(weakref.ref, (output.logits, output.past_key_values.layers[0]._batch.keys)))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "forward", exhausted)
    gc.collect()
    gc.disable()  # the memory is free at once, and not only when Python looks for cycles
    try:
        GuardedEngine(lambda: engine, 12, TokenBudget(10_000), 600).generate(batch)
    finally:
        gc.enable()
    assert len(alive) > 3
    assert not any(alive)


def test_kernels_that_build_a_plan_for_every_length_are_not_used(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = prompts(engine)
    engine.generate(batch)
    model = engine._load().model
    forward = model.forward
    is_allowed: Callable[[], bool] = torch.backends.cuda.cudnn_sdp_enabled
    used: set[bool] = set()

    def recorded(**arguments: Any) -> Any:
        used.add(is_allowed())
        return forward(**arguments)

    monkeypatch.setattr(model, "forward", recorded)
    assert is_allowed()
    engine.generate(batch)
    assert used == {False}
    assert is_allowed()


def test_a_response_ends_at_the_end_of_turn_mark(llama: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama)
    tokenizer = AutoTokenizer.from_pretrained(llama)
    probe = open_model(llama, tmp_path)
    (whole,) = probe.generate(prompts(probe)[:1])
    second_token = tokenizer(whole.response, add_special_tokens=False)["input_ids"][1]
    model.generation_config.eos_token_id = [second_token, tokenizer.eos_token_id]
    model.save_pretrained(tmp_path / "early")
    tokenizer.save_pretrained(tmp_path / "early")
    engine = open_model(tmp_path / "early", tmp_path)
    (short,) = engine.generate(prompts(engine)[:1])
    assert short.finish_reason == "stop"
    assert whole.response.startswith(short.response)
    assert short.completion_tokens < whole.completion_tokens


def test_penalties_and_sampling_of_the_checkpoint_do_not_apply(engine: TransformersEngine, llama: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama)
    for name, value in {"repetition_penalty": 5.0, "do_sample": True, "temperature": 3.0, "no_repeat_ngram_size": 1}.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(tmp_path / "opinionated")
    AutoTokenizer.from_pretrained(llama).save_pretrained(tmp_path / "opinionated")
    opinionated = open_model(tmp_path / "opinionated", tmp_path)
    assert opinionated.generate(prompts(engine)) == engine.generate(prompts(engine))


def test_a_stop_string_ends_a_response_and_is_not_part_of_it(engine: TransformersEngine, llama: Path, tmp_path: Path) -> None:
    whole = engine.generate(prompts(engine))
    stop = whole[0].response[3:5]
    stopping = open_model(llama, tmp_path, stop=[stop])
    for free, stopped in zip(whole, stopping.generate(prompts(stopping)), strict=True):
        if stop in free.response:
            assert stopped.response == free.response[: free.response.index(stop)]
            assert stopped.finish_reason == "stop"
        else:
            assert stopped == free


def test_sampling_depends_on_the_seed_and_not_on_the_batch(llama: Path, tmp_path: Path) -> None:
    engine = open_model(llama, tmp_path, temperature=1.5, top_p=0.9)
    batch = prompts(engine)
    together = engine.generate(batch)
    assert [engine.generate([prompt])[0] for prompt in reversed(batch)] == together[::-1]
    reseeded = engine.generate([prompt._replace(seed=prompt.seed + 100) for prompt in batch])
    assert all(a.response != b.response for a, b in zip(together, reseeded, strict=True))


def test_seeded_sampling_draws_from_the_softmax() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    tokens = TokenChooser(range(20_000), 1.0, 1.0)(logits.repeat(20_000, 1), range(20_000))
    share = tokens.bincount(minlength=4) / len(tokens)
    assert torch.allclose(share, logits.softmax(-1), atol=0.015)
    nucleus = TokenChooser(range(2_000), 1.0, 0.7)(logits.repeat(2_000, 1), range(2_000))
    assert set(nucleus.tolist()) == {0, 1}


def test_an_adapter_is_merged(engine: TransformersEngine, llama: Path, tmp_path: Path) -> None:
    adapter = tiny.make_adapter(tmp_path / "lora", llama)
    adapted = open_model(llama, tmp_path, adapter=str(adapter), max_tokens=1)
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama), adapter)
    changed = 0
    for prompt, completion in zip(prompts(adapted), adapted.generate(prompts(adapted)), strict=True):
        ids = adapted.tokenizer(prompt.text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        expected = adapted.tokenizer.decode(plain(input_ids=ids).logits[0, -1].argmax(), skip_special_tokens=True)
        assert completion.response == expected
        changed += not engine.generate([prompt])[0].response.startswith(expected)
    assert changed


def test_todays_date_in_a_template_is_always_the_same_day(llama: Path, tmp_path: Path) -> None:
    template = "{{ strftime_now('%Y-%m-%d') }} {{ date_string }} {{ mood }}: {{ messages[0]['content'] }}"
    engine = open_model(llama, tmp_path, chat_template=template, chat_template_args={"mood": "calm"})
    assert engine.render([{"role": "user", "content": "hi"}]) == "2026-01-01 01 Jan 2026 calm: hi"


def test_what_cannot_be_loaded_is_named(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        open_model(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="cannot be read by transformers"):
        open_model(tmp_path / "empty", tmp_path)
    with pytest.raises(EngineError, match="device 'cuda:7' is not available"):
        TransformersEngine(
            EngineConfig(device="cuda:7"),
            ModelConfig(name="t", checkpoint=str(llama), dtype="float32", base_rate=1.0),
            Workspace(tmp_path, tmp_path),
        )


def test_one_model_is_loaded_at_a_time(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, load_model = threading.Lock(), decoding.load_model

    def load(*arguments: Any) -> Any:
        assert busy.acquire(blocking=False), "two models are loaded at once"
        try:
            time.sleep(0.1)
            return load_model(*arguments)
        finally:
            busy.release()

    monkeypatch.setattr(decoding, "load_model", load)
    engines = [open_model(llama, tmp_path) for _ in range(3)]
    for loading in [in_background(engine.load) for engine in engines]:
        loading.result()
    responses = [engine.generate(prompts(engine)) for engine in engines]
    assert responses[0] == responses[1] == responses[2]


def test_weights_are_loaded_ahead_only_if_there_is_memory_for_them(
    engine: TransformersEngine, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.engines.transformers.available_memory", lambda: 1000)
    engine.load()
    assert engine._decoder is None
    monkeypatch.setattr("toolkit.engines.transformers.available_memory", lambda: 2**40)
    engine.load()
    assert engine._decoder is not None
    half = open_model(llama, tmp_path, dtype="bfloat16")  # loading it would change the default dtype of all threads
    half.load()
    assert half._decoder is None
