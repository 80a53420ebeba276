"""Decodes a batch with a causal language model of transformers, and computes nothing that no answer needs.

What `model.generate` does beyond that: it reads short prompts at the length of the longest, copies all keys and values at every
token (`DynamicLayer`), and goes on with rows that have ended until the last one has. Models that keep other states than plain
keys and values are left to it. Knows no text, only tokens.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer

SHARED_WORTHWHILE = 16
"""Fewest tokens at the beginning of all prompts of a batch that are worth a forward pass of their own."""
READ_TOGETHER = 0.8
"""Prompts that are read together are at least so long, as a share of the longest of them."""
ENDED_WORTHWHILE = 0.125
"""Share of a batch's rows that have to have ended before the others are copied together."""
ROOM = 64
"""Tokens that a buffer of keys and values has room for when it is made, and grows by."""

Choose = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]
"""Logits `(rows, vocabulary)` and the prompt of every row, to the next token of every row, `(rows,)`."""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values in buffers with room for more tokens, so that a new one is written behind them in place.

    Args:
        rows: Prompts of the batch.
        width: Tokens of the longest of them.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self._rows, self._width = rows, width
        self._buffers: tuple[torch.Tensor, ...] = ()

    def place(self, rows: slice, states: Sequence[torch.Tensor], shared: int) -> None:
        """Put keys and values that have been read, `(rows, heads, tokens, size)`, where they stay.

        Args:
            rows: Whose they are.
            states: Keys and values.
            shared: So many of their tokens come first, at the left; the others end at the width.
        """
        if not self._buffers:
            _, heads, _, size = states[0].shape
            self._buffers = tuple(read.new_zeros(self._rows, heads, self._width + ROOM, size) for read in states)
            self.dtype, self.device, self.is_initialized = states[0].dtype, states[0].device, True
            self._view(self._width)
        for buffer, read in zip(self._buffers, states, strict=True):
            buffer[rows, :, :shared] = read[:, :, :shared]
            buffer[rows, :, self._width - read.shape[2] + shared : self._width] = read[:, :, shared:]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new keys and values, `(rows, heads, tokens, size)`, behind the others; returns all."""
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        if end > self._buffers[0].shape[-2]:
            self._buffers = (_widened(self.keys, end + ROOM), _widened(self.values, end + ROOM))
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self._view(end)
        return self.keys, self.values

    def rearrange(self, order: Sequence[int]) -> None:
        """Keep these rows, in this order; only those that change their place are copied."""
        moved = [at for at, row in enumerate(order) if at != row]
        for buffer in self._buffers:
            buffer[moved] = buffer[[order[at] for at in moved]]
        self._buffers = tuple(buffer[: len(order)] for buffer in self._buffers)
        self._view(self.keys.shape[-2])

    def _view(self, length: int) -> None:
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


class PartLayer(DynamicLayer):  # type: ignore[misc]
    """Rows that are read together: what is read goes straight to its place among all rows of the batch.

    Args:
        whole: The keys and values of all rows.
        rows: Which of them are read.
        begun: Keys and values of what all rows begin with, `(1, heads, shared, size)`, where that is read already.
    """

    def __init__(self, whole: RoomyLayer, rows: slice, begun: DynamicLayer | None) -> None:
        super().__init__()
        self._whole, self._rows = whole, rows
        if begun is not None:
            self.dtype, self.device, self.is_initialized = begun.dtype, begun.device, True
            self.keys, self.values = (one.expand(rows.stop - rows.start, -1, -1, -1) for one in (begun.keys, begun.values))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put keys and values, `(rows, heads, tokens, size)`, into their places; returns all of these rows."""
        shared, states = self.get_seq_length(), (key_states, value_states)
        if shared:
            states = (torch.cat([self.keys, key_states], -2), torch.cat([self.values, value_states], -2))
        self._whole.place(self._rows, states, shared)
        return states


def _widened(states: torch.Tensor, width: int) -> torch.Tensor:
    wide = states.new_zeros(*states.shape[:2], width, states.shape[3])
    wide[:, :, : states.shape[2]] = states
    return wide


class Read(NamedTuple):
    """Prompts as a model has read them.

    Attributes:
        past: Keys and values of every layer, `(rows, heads, width, size)`.
        mask: Which of their tokens are no padding, `(rows, width)`.
        logits: Of the first token of every answer, `(rows, vocabulary)`.
    """

    past: Any
    mask: torch.Tensor
    logits: torch.Tensor


class Decoder:
    """Decodes batches with one model.

    Args:
        model: A causal language model on its device; its own settings for generation are replaced.
        ends: Tokens that end an answer.
        pad: The token that fills up short prompts.
        limit: Longest answer, in tokens.
    """

    def __init__(self, model: Any, ends: set[int], pad: int, limit: int) -> None:
        self.model = model
        self.ends = ends
        self.pad = pad
        self.limit = limit
        takes = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self._takes_positions = "position_ids" in takes
        self._layers: int | None = None
        model.generation_config = GenerationConfig(
            max_new_tokens=limit, do_sample=False, eos_token_id=sorted(ends), pad_token_id=pad
        )

    def decode(
        self, prompts: Sequence[Sequence[int]], choose: Choose, stopped: Callable[[Sequence[int]], bool]
    ) -> list[list[int]]:
        """Answer every prompt; an answer ends with a token of `ends`, where `stopped` says so, or at the limit.

        Args:
            prompts: Tokens of each prompt, at least one.
            choose: Chooses the next token of every row.
            stopped: Tells whether an answer, as far as it is, has ended.
        """
        rows = sorted(range(len(prompts)), key=lambda n: -len(prompts[n]))
        read = self._read([prompts[n] for n in rows])
        if read is None:
            return self._generate(prompts, choose, stopped)
        past, mask, logits = read
        lengths = mask.sum(-1, keepdim=True)
        answers: list[list[int]] = [[] for _ in prompts]
        going = set(rows)
        while True:
            newest = choose(logits, rows)
            for n, token in zip(rows, newest.tolist(), strict=True):
                if n in going:
                    answers[n].append(token)
                    if token in self.ends or len(answers[n]) == self.limit or stopped(answers[n]):
                        going.remove(n)
            if not going:
                return answers
            if len(rows) - len(going) >= ENDED_WORTHWHILE * len(rows):
                order = _closed_up([at for at, n in enumerate(rows) if n in going])
                rows = [rows[at] for at in order]
                for layer in past.layers:
                    layer.rearrange(order)
                indices = torch.tensor(order, device=mask.device)
                newest, mask, lengths = newest[indices], mask[indices], lengths[indices]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
            past, logits = self._forward(newest[:, None], mask, lengths, past)
            lengths = lengths + 1

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, past: Any) -> tuple[Any, torch.Tensor]:
        given = {"position_ids": positions} if self._takes_positions else {}
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=past,
            use_cache=True,
            return_dict=True,
            **given,
            **self._last_only,
        )
        return out.past_key_values, out.logits[:, -1].float()

    def _read(self, prompts: Sequence[Sequence[int]]) -> Read | None:
        """Read prompts, longest first: what all begin with once, and the rest with those of about the same length.

        None where keys and values cannot be cut and put together: with sliding windows and recurrent states.
        """
        if self._layers is None:
            out = self.model(input_ids=torch.tensor([prompts[0][:1]], device=self.model.device), use_cache=True)
            past: Any = getattr(out, "past_key_values", None)
            plain = type(past) is DynamicCache and all(type(layer) is DynamicLayer for layer in past.layers)
            self._layers = len(past.layers) if plain else 0
        if not self._layers:
            return None
        shared, width = _shared(prompts), len(prompts[0])
        begun: list[Any] = [None] * self._layers
        if shared:
            ids, mask = self._padded([prompts[0][:shared]], shared, 0)
            begun = self._forward(ids, mask, mask.cumsum(-1) - 1, DynamicCache())[0].layers
        past = DynamicCache()
        past.layers = [RoomyLayer(len(prompts), width) for _ in begun]
        masks, logits, row = [], [], 0
        for group in _groups(prompts):
            ids, mask = self._padded(group, len(group[0]), shared)
            part = DynamicCache()
            rows = slice(row, row := row + len(group))
            part.layers = [PartLayer(layer, rows, first) for layer, first in zip(past.layers, begun, strict=True)]
            logits.append(self._forward(ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)[:, shared:], part)[1])
            masks.append(self._padded(group, width, shared)[1])
        return Read(past, torch.cat(masks), torch.cat(logits))

    def _padded(self, prompts: Sequence[Sequence[int]], width: int, shared: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Bring prompts to one length; tokens `(rows, width - shared)` and mask `(rows, width)`, padding behind the shared."""
        ids = [[self.pad] * (width - len(prompt)) + list(prompt[shared:]) for prompt in prompts]
        seen = [[1] * shared + [0] * (width - len(prompt)) + [1] * (len(prompt) - shared) for prompt in prompts]
        return torch.tensor(ids, device=self.model.device), torch.tensor(seen, device=self.model.device)

    def _generate(
        self, prompts: Sequence[Sequence[int]], choose: Choose, stopped: Callable[[Sequence[int]], bool]
    ) -> list[list[int]]:
        """Decode by transformers' own `generate`, which knows every kind of state that a model keeps."""
        ids, mask = self._padded(prompts, max(map(len, prompts)), 0)
        start, every = ids.shape[1], range(len(prompts))

        def chosen(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            return torch.full_like(scores, -torch.inf).scatter_(1, choose(scores.float(), every)[:, None], 0)

        def ended(written: torch.Tensor, _: Any) -> torch.Tensor:
            return torch.tensor([stopped(row) for row in written[:, start:].tolist()], device=written.device)

        written = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            logits_processor=LogitsProcessorList([chosen]),
            stopping_criteria=StoppingCriteriaList([ended]),
        )
        return [self._whole(row, stopped) for row in written[:, start:].tolist()]

    def _whole(self, written: list[int], stopped: Callable[[Sequence[int]], bool]) -> list[int]:
        """Leave out what a row was filled up with after its end."""
        ends = (n for n, token in enumerate(written, 1) if token in self.ends or stopped(written[:n]))
        return written[: next(ends, self.limit)]


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens at the beginning of all prompts to read once."""
    if len(prompts) < 2:
        return 0
    same = takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))
    shared = min(sum(1 for _ in same), min(map(len, prompts)) - 1)
    return shared if shared >= SHARED_WORTHWHILE else 0


def _groups(prompts: Sequence[Sequence[int]]) -> Iterator[Sequence[Sequence[int]]]:
    """Cut prompts, longest first, where they become much shorter."""
    start = 0
    for at, prompt in enumerate(prompts):
        if len(prompt) < READ_TOGETHER * len(prompts[start]):
            yield prompts[start:at]
            start = at
    yield prompts[start:]


def _closed_up(kept: Sequence[int]) -> list[int]:
    """Order rows so that they have no gaps between them and as few as possible change their place."""
    staying, late = {at for at in kept if at < len(kept)}, iter([at for at in kept if at >= len(kept)])
    return [at if at in staying else next(late) for at in range(len(kept))]
