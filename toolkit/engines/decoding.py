"""Loads a causal language model of transformers and decodes batches with it, without computation that no response needs.

`model.generate` pads short prompts to the longest, copies all keys and values at every token, and continues finished rows
until the last one ends. The loop here does none of that. Models with other states than plain keys and values (sliding
windows, recurrent states) are left to `model.generate`. Knows tokens only, no text.
"""

import inspect
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoModelForCausalLM, DynamicCache, GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer
from transformers.utils import logging as transformers_logging

from toolkit.core.errors import EngineError
from toolkit.engines.base import BatchTooLargeError
from toolkit.engines.kv_cache import PreallocatedLayer, PrefillLayer

MIN_SHARED_TOKENS = 16
"""Shortest shared prefix of a batch that gets a forward pass of its own."""
MIN_LENGTH_RATIO = 0.8
"""Shortest prompt that is read together with a longer one, as a fraction of its length."""
MIN_FINISHED_SHARE = 0.125
"""Share of a batch's rows that must have finished before the others are moved together."""

ATTENTION_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Kernels of attention: all but cuDNN's, which PyTorch prefers on recent GPUs and which builds a plan for every new length,
so at every token."""

IsFinished = Callable[[Sequence[int]], bool]
"""Tells whether a response, as far as it is generated, is finished."""

transformers_logging.disable_progress_bar()  # the toolkit shows its own on stderr


def choose_device(name: str) -> torch.device:
    """Return a device by name; `auto` is the GPU if there is one.

    Raises:
        EngineError: The device is not available.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise EngineError(
            f'The device {name!r} is not available: {reason}. Use device = "auto" or "cpu" under [engine].'
        ) from None
    return device


def load_model(path: Path, adapter: Path | None, dtype: str, device: torch.device) -> Any:
    """Load a checkpoint, merge a LoRA adapter into its weights, and move it to a device; runs no code that comes with it."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype), trust_remote_code=False, weights_only=True)
    if adapter:
        from peft import PeftModel

        with warnings.catch_warnings():  # peft reads an attribute that transformers is about to rename
            warnings.simplefilter("ignore", FutureWarning)
            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model.to(device).eval()


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn the out-of-memory errors of every kind of device into `BatchTooLargeError`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not out_of_memory and "memory" not in str(error).lower():  # the allocators of CPU and MPS raise a RuntimeError
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the batch's tensors for as long as somebody holds the error
        torch.cuda.empty_cache()
        raise BatchTooLargeError(str(error)) from None


class TokenChooser:
    """Chooses the next token of every row: the most probable one, or a sample at a temperature above 0.

    Samples by the Gumbel-max trick: add noise, take the largest logit. A prompt's noise follows from its own seed, and not
    from the batch that it happens to be in.

    Args:
        seeds: Seed of each prompt.
        temperature: Divides the logits; 0 is greedy decoding.
        top_p: Probability of the tokens to sample from (nucleus sampling).
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds] if temperature else []
        self._temperature = temperature
        self._top_p = top_p

    def __call__(self, logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Return tokens, `(rows,)`, for logits, `(rows, vocabulary)`; `rows` holds the index of each row's prompt."""
        if not self._temperature:
            return logits.argmax(-1)
        logits = logits / self._temperature
        if self._top_p < 1:
            ordered, order = logits.sort(dim=-1, descending=True)
            probability_before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
            outside = probability_before >= self._top_p
            logits = logits.masked_fill(outside.scatter(-1, order, outside), -torch.inf)
        size = logits.shape[-1]
        noise = torch.stack([torch.empty(size).exponential_(generator=self._generators[row]) for row in rows])
        return (logits - noise.to(logits.device).log()).argmax(-1)


class Prefilled(NamedTuple):
    """Prompts that a model has read.

    Attributes:
        past: Keys and values of every layer, `(rows, heads, width, size)`.
        mask: 1 for tokens and 0 for padding, `(rows, width)`.
        logits: Logits of the first token of every response, `(rows, vocabulary)`.
    """

    past: Any
    mask: torch.Tensor
    logits: torch.Tensor


class Decoder:
    """Decodes batches with one model.

    Args:
        model: A causal language model on its device; its own generation settings are replaced.
        end_tokens: Tokens that end a response.
        pad_token: The token that fills up short prompts.
        max_tokens: Longest response, in tokens.
    """

    def __init__(self, model: Any, end_tokens: set[int], pad_token: int, max_tokens: int) -> None:
        self.model = model
        self.end_tokens = end_tokens
        self.pad_token = pad_token
        self.max_tokens = max_tokens
        parameters = inspect.signature(model.forward).parameters
        self._last_logits_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._takes_positions = "position_ids" in parameters
        self._n_layers: int | None = None
        model.generation_config = GenerationConfig(
            max_new_tokens=max_tokens, do_sample=False, eos_token_id=sorted(end_tokens), pad_token_id=pad_token
        )

    @_memory_errors()
    @sdpa_kernel(ATTENTION_BACKENDS)
    @torch.inference_mode()
    def decode(self, prompts: Sequence[Sequence[int]], choose_tokens: TokenChooser, is_finished: IsFinished) -> list[list[int]]:
        """Generate a response to every prompt, up to an end token, `is_finished`, or `max_tokens`.

        Args:
            prompts: Tokens of each prompt, at least one.
            choose_tokens: Chooses the next token of every row.
            is_finished: Ends a response early.

        Raises:
            BatchTooLargeError: The batch does not fit into memory.
        """
        rows = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        prefilled = self._prefill([prompts[index] for index in rows])
        if prefilled is None:
            return self._generate(prompts, choose_tokens, is_finished)
        past, mask, logits = prefilled
        positions = mask.sum(-1, keepdim=True)
        responses: list[list[int]] = [[] for _ in prompts]
        unfinished = set(rows)
        while True:
            tokens = choose_tokens(logits, rows)
            for index, token in zip(rows, tokens.tolist(), strict=True):
                if index in unfinished:
                    response = responses[index]
                    response.append(token)
                    if token in self.end_tokens or len(response) == self.max_tokens or is_finished(response):
                        unfinished.remove(index)
            if not unfinished:
                return responses
            if len(rows) - len(unfinished) >= MIN_FINISHED_SHARE * len(rows):
                order = _compact([row for row, index in enumerate(rows) if index in unfinished])
                rows = [rows[row] for row in order]
                for layer in past.layers:
                    layer.reorder(order)
                remaining = torch.tensor(order, device=mask.device)
                tokens, mask, positions = tokens[remaining], mask[remaining], positions[remaining]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
            past, logits = self._forward(tokens[:, None], mask, positions, past)
            positions = positions + 1

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, past: Any) -> tuple[Any, torch.Tensor]:
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=past,
            use_cache=True,
            return_dict=True,
            **({"position_ids": positions} if self._takes_positions else {}),
            **self._last_logits_only,
        )
        return output.past_key_values, output.logits[:, -1].float()

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> Prefilled | None:
        """Read prompts, longest first: their shared prefix once, and the rest together with prompts of similar length.

        Returns None for a model whose states cannot be cut and joined.
        """
        if self._n_layers is None:
            self._n_layers = self._count_layers(prompts[0][0])
        if not self._n_layers:
            return None
        shared, width = _shared_prefix(prompts), len(prompts[0])
        prefix_layers: list[Any] = [None] * self._n_layers
        if shared:
            ids, mask = self._pad([prompts[0][:shared]], shared, 0)
            prefix_layers = self._forward(ids, mask, mask.cumsum(-1) - 1, DynamicCache())[0].layers
        past = DynamicCache()
        past.layers = [PreallocatedLayer(len(prompts), width) for _ in prefix_layers]
        masks, logits, start = [], [], 0
        for group in _group_by_length(prompts):
            ids, mask = self._pad(group, len(group[0]), shared)
            rows = slice(start, start := start + len(group))
            group_past = DynamicCache()
            group_past.layers = [
                PrefillLayer(layer, rows, prefix) for layer, prefix in zip(past.layers, prefix_layers, strict=True)
            ]
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, shared:]
            logits.append(self._forward(ids, mask, positions, group_past)[1])
            masks.append(self._pad(group, width, shared)[1])
        return Prefilled(past=past, mask=torch.cat(masks), logits=torch.cat(logits))

    def _count_layers(self, token: int) -> int:
        """Return the number of layers of a model that keeps plain keys and values; 0 for any other model."""
        output = self.model(input_ids=torch.tensor([[token]], device=self.model.device), use_cache=True)
        past: Any = getattr(output, "past_key_values", None)
        plain = type(past) is DynamicCache and all(type(layer) is DynamicLayer for layer in past.layers)
        return len(past.layers) if plain else 0

    def _pad(self, prompts: Sequence[Sequence[int]], width: int, shared: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Pad prompts to one length, behind their shared prefix.

        Returns:
            Tokens without the prefix, `(rows, width - shared)`, and mask with it, `(rows, width)`.
        """
        ids = [[self.pad_token] * (width - len(prompt)) + list(prompt[shared:]) for prompt in prompts]
        mask = [[1] * shared + [0] * (width - len(prompt)) + [1] * (len(prompt) - shared) for prompt in prompts]
        return torch.tensor(ids, device=self.model.device), torch.tensor(mask, device=self.model.device)

    def _generate(
        self, prompts: Sequence[Sequence[int]], choose_tokens: TokenChooser, is_finished: IsFinished
    ) -> list[list[int]]:
        """Decode with `model.generate`, which supports every kind of state."""
        ids, mask = self._pad(prompts, max(map(len, prompts)), 0)
        start, rows = ids.shape[1], range(len(prompts))

        def only_chosen(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            chosen = choose_tokens(scores.float(), rows)[:, None]
            return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0)

        def finished(sequences: torch.Tensor, _: Any) -> torch.Tensor:
            return torch.tensor([is_finished(row) for row in sequences[:, start:].tolist()], device=sequences.device)

        sequences = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            logits_processor=LogitsProcessorList([only_chosen]),
            stopping_criteria=StoppingCriteriaList([finished]),
        )
        return [self._trim(row, is_finished) for row in sequences[:, start:].tolist()]

    def _trim(self, response: list[int], is_finished: IsFinished) -> list[int]:
        """Drop the padding after the end of a response."""
        lengths = (n for n, token in enumerate(response, 1) if token in self.end_tokens or is_finished(response[:n]))
        return response[: next(lengths, self.max_tokens)]


def _shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Return the length of the prefix that all prompts share; 0 if reading it once is not worthwhile."""
    if len(prompts) < 2:
        return 0
    equal = takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))
    shared = min(sum(1 for _ in equal), min(map(len, prompts)) - 1)
    return shared if shared >= MIN_SHARED_TOKENS else 0


def _group_by_length(prompts: Sequence[Sequence[int]]) -> Iterator[Sequence[Sequence[int]]]:
    """Cut prompts, longest first, where they become much shorter."""
    start = 0
    for index, prompt in enumerate(prompts):
        if len(prompt) < MIN_LENGTH_RATIO * len(prompts[start]):
            yield prompts[start:index]
            start = index
    yield prompts[start:]


def _compact(rows: Sequence[int]) -> list[int]:
    """Order rows so that they lie side by side from 0, and as few as possible change their place."""
    staying = {row for row in rows if row < len(rows)}
    moving = iter([row for row in rows if row >= len(rows)])
    return [place if place in staying else next(moving) for place in range(len(rows))]
