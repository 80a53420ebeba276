"""The embedded engine: Hugging Face transformers on CPU or GPU, LoRA adapters merged by PEFT."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)
from transformers.cache_utils import DynamicLayer
from transformers.utils import logging as transformers_logging

from toolkit.checkpoints import fetch, local_path
from toolkit.config import EngineConfig, ModelConfig
from toolkit.engines import BatchTooLargeError, Completion, Prompt, before_stop
from toolkit.engines.tokenizer import ChatTokenizer
from toolkit.errors import CheckpointError, EngineError
from toolkit.prompts import Message

transformers_logging.disable_progress_bar()  # ours is the one on stderr

SHARED_WORTHWHILE = 16
"""Fewest tokens at the beginning of all prompts of a batch that are worth a forward pass of their own."""


class SeededNoise(LogitsProcessor):  # type: ignore[misc]
    """Samples by the Gumbel-max trick: noise is added per row from the row's own seed, then the largest logit is taken.

    The noise of a prompt therefore depends on its key alone, never on the batch it happens to be in.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperature = temperature
        self.top_p = top_p

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the perturbed logits, `(rows, vocabulary)`."""
        logits = scores.float() / self.temperature
        if self.top_p < 1:
            ordered, order = logits.sort(dim=-1, descending=True)
            before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
            logits = logits.masked_fill((before >= self.top_p).scatter(-1, order, before >= self.top_p), -torch.inf)
        noise = torch.stack([torch.empty(logits.shape[-1]).exponential_(generator=g) for g in self.generators])
        return logits - noise.to(logits.device).log()


class TransformersEngine:
    """One checkpoint, with its adapter merged into the weights, decoding greedily or by seeded sampling."""

    def __init__(self, config: EngineConfig, model: ModelConfig, base: Path, store: Path) -> None:
        self.label = f"transformers {transformers.__version__}, torch {torch.__version__}"
        self.config = model
        self.device = _device(config.device)
        self.adapter = local_path(model.adapter, base) if model.adapter else None
        self.path = fetch(model, base, store)
        self.chat = ChatTokenizer(model, self.path)
        self.tokenizer = self.chat.tokenizer
        self.context_length = self.chat.context_length
        self._model: Any = None
        self._ends: set[int] = set()

    def render(self, messages: Sequence[Message]) -> str:
        """Render a chat with the model's chat template."""
        return self.chat.render(messages)

    def count(self, text: str) -> int:
        """Return the length of a text in tokens."""
        return self.chat.count(text)

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Answer a batch; what all its prompts begin with (system prompt, few-shot) is read once."""
        model = self._resident()
        tokens = self.tokenizer([prompt.text for prompt in prompts], add_special_tokens=False)["input_ids"]
        noise = LogitsProcessorList()
        if self.config.temperature > 0:
            noise.append(SeededNoise([prompt.seed for prompt in prompts], self.config.temperature, self.config.top_p))
        stop: dict[str, Any] = {"stop_strings": list(self.config.stop), "tokenizer": self.tokenizer} if self.config.stop else {}
        try:
            with torch.inference_mode():
                shared, past = self._read_shared(model, tokens)
                ids, mask = self._pad(tokens, shared)
                output = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    past_key_values=past,
                    logits_processor=noise,
                    **stop,
                )
        except (torch.OutOfMemoryError, MemoryError) as error:
            self._empty_cache()
            raise BatchTooLargeError(str(error)) from None
        except RuntimeError as error:
            if "memory" not in str(error).lower():  # what CPU and MPS allocators say
                raise
            self._empty_cache()
            raise BatchTooLargeError(str(error)) from None
        return [self._completion(row) for row in output[:, ids.shape[1] :].tolist()]

    def close(self) -> None:
        """Free the weights."""
        self._model = None
        self._empty_cache()

    def _read_shared(self, model: Any, tokens: Sequence[list[int]]) -> tuple[int, Any]:
        """Read the tokens that all prompts begin with; returns how many, and their keys and values for every row.

        Only for plain caches: sliding windows and recurrent states cannot be cut there, and are left to the model.
        """
        same = takewhile(lambda column: len(set(column)) == 1, zip(*tokens, strict=False))
        shared = min(sum(1 for _ in same), min(map(len, tokens)) - 1)
        if len(tokens) < 2 or shared < SHARED_WORTHWHILE:
            return 0, None
        past = model(torch.tensor([tokens[0][:shared]], device=self.device), use_cache=True, logits_to_keep=1).past_key_values
        if type(past) is not DynamicCache or any(type(layer) is not DynamicLayer for layer in past.layers):
            return 0, None
        past.batch_repeat_interleave(len(tokens))
        return shared, past

    def _pad(self, tokens: Sequence[list[int]], shared: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Bring prompts to one length, padding between the shared beginning and the rest; `(rows, length)` ids and mask."""
        width = max(map(len, tokens))
        pad = self.tokenizer.pad_token_id
        ids = [row[:shared] + [pad] * (width - len(row)) + row[shared:] for row in tokens]
        mask = [[1] * shared + [0] * (width - len(row)) + [1] * (len(row) - shared) for row in tokens]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)

    def _completion(self, tokens: list[int]) -> Completion:
        end = next((n for n, token in enumerate(tokens) if token in self._ends), None)
        response = self.tokenizer.decode(tokens[:end], skip_special_tokens=True)
        response, stopped = before_stop(response, self.config.stop)
        return Completion(response, self.count(response), "stop" if stopped or end is not None else "length")

    def _resident(self) -> Any:
        if self._model is None:
            assert self.config.dtype
            dtype = getattr(torch, self.config.dtype)
            try:
                model = AutoModelForCausalLM.from_pretrained(self.path, dtype=dtype)
                if self.adapter:
                    from peft import PeftModel

                    model = PeftModel.from_pretrained(model, self.adapter).merge_and_unload()
            except (OSError, ValueError, ImportError) as error:
                raise CheckpointError(f"The weights of model {self.config.name!r} cannot be loaded: {error}") from None
            self._plain_decoding(model)
            self._model = model.to(self.device).eval()
        return self._model

    def _plain_decoding(self, model: Any) -> None:
        """Put our own settings in place of the checkpoint's, of which only the end-of-turn marks are kept.

        Checkpoints bring penalties and sampling settings of their own, which would apply wherever we name none.
        """
        ends = model.generation_config.eos_token_id or self.tokenizer.eos_token_id
        self._ends = set(ends) if isinstance(ends, list) else {ends}
        model.generation_config = GenerationConfig(
            max_new_tokens=self.config.max_tokens,
            do_sample=False,
            eos_token_id=sorted(self._ends),
            pad_token_id=self.tokenizer.pad_token_id,
        )

    def _empty_cache(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise EngineError(
            f'The device {name!r} is not to be had: {reason}. Use device = "auto" or "cpu" under [engine].'
        ) from None
    return device
