"""Loads a causal language model of transformers and decodes batches with it, without computation that no response needs.

`model.generate` pads short prompts to the longest, copies all keys and values at every token, and continues finished rows
until the last one ends. The loop here does none of that. Models with other states than plain keys and values (sliding
windows, recurrent states) are left to `model.generate`. Knows tokens only, no text.
"""

import inspect
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoModelForCausalLM, DynamicCache, GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer
from transformers.utils import logging as transformers_logging

from toolkit.core.errors import EngineError
from toolkit.engines import tree_attention
from toolkit.engines.base import BatchTooLargeError
from toolkit.engines.kv_cache import RowCache
from toolkit.engines.prompt_reading import PromptReader

MIN_FINISHED_SHARE = 0.125
"""Share of a batch's rows that must have finished before the others are moved together."""
MIN_STARTING_SHARE = 0.25
"""Number of prompts that are started together, at least, as a share of the rows that are being decoded."""

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


class Decoded(NamedTuple):
    """A response.

    Attributes:
        tokens: Its tokens, an end token included.
        cached_tokens: Tokens of its prompt that were read for an earlier prompt.
    """

    tokens: list[int]
    cached_tokens: int


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
        self._keeps_logits = "logits_to_keep" in parameters
        self._takes_positions = "position_ids" in parameters
        self._n_layers: int | None = None
        model.generation_config = GenerationConfig(
            max_new_tokens=max_tokens, do_sample=False, eos_token_id=sorted(end_tokens), pad_token_id=pad_token
        )

    @_memory_errors()
    @sdpa_kernel(ATTENTION_BACKENDS)
    @torch.inference_mode()
    def decode(
        self, prompts: Sequence[Sequence[int]], choose_tokens: TokenChooser, is_finished: IsFinished, batch_tokens: int
    ) -> list[Decoded]:
        """Generate a response to every prompt, up to an end token, `is_finished`, or `max_tokens`.

        Args:
            prompts: Tokens of each prompt, at least one; best in an order in which those with a common prefix meet.
            choose_tokens: Chooses the next token of every row.
            is_finished: Ends a response early.
            batch_tokens: Tokens of prompts and responses to hold at a time; further prompts start as others end.

        Raises:
            BatchTooLargeError: The batch does not fit into memory.
        """
        if self._n_layers is None:
            self._n_layers = self._count_layers(prompts[0][0])
        if self._n_layers:
            return Batch(self, self._n_layers, prompts, choose_tokens, is_finished, batch_tokens).run()
        rows = self.rows(max(map(len, prompts)), batch_tokens)
        parts = (range(start, min(start + rows, len(prompts))) for start in range(0, len(prompts), rows))
        return [response for part in parts for response in self._generate(prompts, part, choose_tokens, is_finished)]

    def rows(self, longest: int, batch_tokens: int) -> int:
        """Return how many prompts of at most `longest` tokens, with their responses, are held at a time."""
        return max(1, batch_tokens // (longest + self.max_tokens))

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, past: Any, last: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Read tokens, `(rows, tokens)`, and add their keys and values to `past`.

        Returns:
            Logits: of each row's last token, `(rows, vocabulary)`, or of the tokens `last` of the only row.
        """
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=past,
            use_cache=True,
            return_dict=True,
            **({"position_ids": positions} if self._takes_positions else {}),
            **({"logits_to_keep": 1 if last is None else last} if self._keeps_logits else {}),
        )
        logits: torch.Tensor = output.logits
        if last is None:
            return logits[:, -1].float()
        return (logits[0] if self._keeps_logits else logits[0, last]).float()

    def _count_layers(self, token: int) -> int:
        """Return the number of layers of a model that keeps plain keys and values, and let it attend along prefix trees.

        For any other model, return 0.
        """
        output = self.model(input_ids=torch.tensor([[token]], device=self.model.device), use_cache=True)
        past: Any = getattr(output, "past_key_values", None)
        plain = type(past) is DynamicCache and all(type(layer) is DynamicLayer for layer in past.layers)
        if not plain or self.model.config._attn_implementation != "sdpa":
            return 0
        self.model.set_attn_implementation(tree_attention.NAME)
        return len(past.layers)

    def _generate(
        self, prompts: Sequence[Sequence[int]], part: range, choose_tokens: TokenChooser, is_finished: IsFinished
    ) -> list[Decoded]:
        """Decode some of the prompts with `model.generate`, which supports every kind of state."""
        start = max(len(prompts[index]) for index in part)
        ids = [[self.pad_token] * (start - len(prompts[index])) + list(prompts[index]) for index in part]
        mask = [[0] * (start - len(prompts[index])) + [1] * len(prompts[index]) for index in part]

        def only_chosen(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            chosen = choose_tokens(scores.float(), part)[:, None]
            return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0)

        def finished(sequences: torch.Tensor, _: Any) -> torch.Tensor:
            return torch.tensor([is_finished(row) for row in sequences[:, start:].tolist()], device=sequences.device)

        sequences = self.model.generate(
            input_ids=torch.tensor(ids, device=self.model.device),
            attention_mask=torch.tensor(mask, device=self.model.device),
            logits_processor=LogitsProcessorList([only_chosen]),
            stopping_criteria=StoppingCriteriaList([finished]),
        )
        return [Decoded(self._trim(row, is_finished), 0) for row in sequences[:, start:].tolist()]

    def _trim(self, response: list[int], is_finished: IsFinished) -> list[int]:
        """Drop the padding after the end of a response."""
        lengths = (n for n, token in enumerate(response, 1) if token in self.end_tokens or is_finished(response[:n]))
        return response[: next(lengths, self.max_tokens)]


class Batch:
    """Responses that are decoded together: rows leave as they end, and waiting prompts take their places.

    Args:
        decoder: Runs the model.
        n_layers: Number of the model's layers.
        prompts: Tokens of each prompt.
        choose_tokens: Chooses the next token of every row.
        is_finished: Ends a response early.
        batch_tokens: Tokens of prompts and responses to hold at a time.
    """

    def __init__(
        self,
        decoder: Decoder,
        n_layers: int,
        prompts: Sequence[Sequence[int]],
        choose_tokens: TokenChooser,
        is_finished: IsFinished,
        batch_tokens: int,
    ) -> None:
        self.decoder, self.prompts = decoder, prompts
        self.choose_tokens, self.is_finished, self.batch_tokens = choose_tokens, is_finished, batch_tokens
        self.device = decoder.model.device
        self.reader = PromptReader(prompts, decoder.forward, n_layers, self.device)
        self.cache = RowCache(n_layers)
        self.waiting = deque(range(len(prompts)))
        self.responses = [Decoded(tokens=[], cached_tokens=0) for _ in prompts]
        self.rows: list[int] = []
        """The prompt of each row."""
        self.unfinished: set[int] = set()
        """Prompts whose response is decoded now."""
        self.tokens = torch.empty(0, dtype=torch.long, device=self.device)
        """Newest token of each row."""
        self.lengths = torch.empty(0, dtype=torch.long, device=self.device)
        """Tokens of each row before the newest."""

    def run(self) -> list[Decoded]:
        """Decode all responses."""
        while self.waiting or self.rows:
            if starting := self._next_prompts():
                self._start(starting)
            else:
                self._step()
            self._drop_finished()
        return self.responses

    def _next_prompts(self) -> list[int]:
        """Return the waiting prompts to start now: as many as fit, if that is a good part of the batch."""
        if not self.waiting:
            return []
        longest, n_rows = max((len(self.prompts[row]) for row in self.rows), default=0), len(self.rows)
        starting: list[int] = []
        for index in self.waiting:
            longest = max(longest, len(self.prompts[index]))
            if n_rows + len(starting) + 1 > self.decoder.rows(longest, self.batch_tokens):
                break
            starting.append(index)
        return starting if not n_rows or len(starting) >= MIN_STARTING_SHARE * n_rows else []

    def _start(self, starting: Sequence[int]) -> None:
        """Read prompts, and add their rows."""
        prefilled = self.reader.read(starting)
        for index, n_read in zip(starting, prefilled.n_read, strict=True):
            self.responses[index] = Decoded(tokens=[], cached_tokens=len(self.prompts[index]) - n_read)
            self.waiting.popleft()
        self.cache.add(self.reader.cache, prefilled.places)
        self.rows += starting
        self.unfinished |= set(starting)
        lengths = torch.tensor([len(self.prompts[index]) for index in starting], device=self.device)
        self.lengths = torch.cat([self.lengths, lengths])
        self.tokens = torch.cat([self.tokens, self._choose(prefilled.logits, starting)])

    def _step(self) -> None:
        """Decode a token of each row."""
        width = int(self.lengths.max()) + 1
        self.cache.begin(width)
        mask = torch.arange(width, device=self.device) >= width - 1 - self.lengths[:, None]
        logits = self.decoder.forward(self.tokens[:, None], mask.long(), self.lengths[:, None], self.cache)
        self.lengths = self.lengths + 1
        self.tokens = self._choose(logits, self.rows)

    def _choose(self, logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Choose the next token of some rows, and add it to their responses unless these are finished."""
        tokens = self.choose_tokens(logits, rows)
        for index, token in zip(rows, tokens.tolist(), strict=True):
            if index in self.unfinished:
                response = self.responses[index].tokens
                response.append(token)
                if token in self.decoder.end_tokens or len(response) == self.decoder.max_tokens or self.is_finished(response):
                    self.unfinished.remove(index)
        return tokens

    def _drop_finished(self) -> None:
        """Drop finished rows, once they are a good part of the batch."""
        if len(self.rows) - len(self.unfinished) >= MIN_FINISHED_SHARE * len(self.rows):
            order = _compact([row for row, index in enumerate(self.rows) if index in self.unfinished])
            self.rows = [self.rows[row] for row in order]
            self.cache.keep(order)
            remaining = torch.tensor(order, dtype=torch.long, device=self.device)
            self.tokens, self.lengths = self.tokens[remaining], self.lengths[remaining]


def _compact(rows: Sequence[int]) -> list[int]:
    """Order rows so that they lie side by side from 0, and as few as possible change their place."""
    staying = {row for row in rows if row < len(rows)}
    moving = iter([row for row in rows if row >= len(rows)])
    return [place if place in staying else next(moving) for place in range(len(rows))]
