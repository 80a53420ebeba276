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
    """Keys and values in buffers with room for more tokens, so that a new one is written behind them in place."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._buffers = (keys, values)
        self._view(length)

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

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows."""
        length = self.keys.shape[-2]
        self._buffers = (self._buffers[0][indices], self._buffers[1][indices])
        self._view(length)

    def _view(self, length: int) -> None:
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


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
        self._plain: bool | None = None
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
                kept = [at for at, n in enumerate(rows) if n in going]
                rows = [rows[at] for at in kept]
                indices = torch.tensor(kept, device=mask.device)
                past.batch_select_indices(indices)
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
        if self._plain is None:
            out = self.model(input_ids=torch.tensor([prompts[0][:1]], device=self.model.device), use_cache=True)
            past: Any = getattr(out, "past_key_values", None)
            self._plain = type(past) is DynamicCache and all(type(layer) is DynamicLayer for layer in past.layers)
        if not self._plain:
            return None
        shared = _shared(prompts)
        start = self._read_together([prompts[0][:shared]], 0, None).past if shared else None
        return _together([self._read_together(group, shared, start) for group in _groups(prompts)], shared)

    def _padded(self, prompts: Sequence[Sequence[int]], shared: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Bring prompts to one length; tokens `(rows, width - shared)` and mask `(rows, width)`, padding behind the shared."""
        width = max(map(len, prompts))
        ids = [[self.pad] * (width - len(prompt)) + list(prompt[shared:]) for prompt in prompts]
        seen = [[1] * shared + [0] * (width - len(prompt)) + [1] * (len(prompt) - shared) for prompt in prompts]
        return torch.tensor(ids, device=self.model.device), torch.tensor(seen, device=self.model.device)

    def _read_together(self, prompts: Sequence[Sequence[int]], shared: int, start: Any) -> Read:
        """Read prompts at one length, behind the `shared` tokens of them that are read already."""
        ids, mask = self._padded(prompts, shared)
        past = DynamicCache()
        for number, layer in enumerate(() if start is None else start.layers):
            past.update(*(states.expand(len(prompts), -1, -1, -1) for states in (layer.keys, layer.values)), number)
        past, logits = self._forward(ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)[:, shared:], past)
        return Read(past, mask, logits)

    def _generate(
        self, prompts: Sequence[Sequence[int]], choose: Choose, stopped: Callable[[Sequence[int]], bool]
    ) -> list[list[int]]:
        """Decode by transformers' own `generate`, which knows every kind of state that a model keeps."""
        ids, mask = self._padded(prompts, 0)
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


def _together(parts: Sequence[Read], shared: int) -> Read:
    """Put parts together, the longest first, at one width: the shared tokens to the left, the others to the right."""
    rows, width = sum(len(part.mask) for part in parts), parts[0].mask.shape[1]
    mask = parts[0].mask.new_zeros(rows, width)
    row = 0
    for part in parts:
        mask[row : row + len(part.mask), :shared] = 1
        mask[row : row + len(part.mask), width - part.mask.shape[1] + shared :] = part.mask[:, shared:]
        row += len(part.mask)
    past = DynamicCache()
    past.layers = [_joined(layers, rows, width, shared) for layers in zip(*(part.past.layers for part in parts), strict=True)]
    return Read(past, mask, torch.cat([part.logits for part in parts]))


def _joined(layers: Sequence[Any], rows: int, width: int, shared: int) -> RoomyLayer:
    buffers = []
    for name in ("keys", "values"):
        parts = [getattr(layer, name) for layer in layers]
        _, heads, _, size = parts[0].shape
        buffer = parts[0].new_zeros(rows, heads, width + ROOM, size)
        row = 0
        for states in parts:
            until = row + states.shape[0]
            buffer[row:until, :, :shared] = states[:, :, :shared]
            buffer[row:until, :, width - states.shape[2] + shared : width] = states[:, :, shared:]
            row = until
        buffers.append(buffer)
    for layer in layers:
        layer.reset()  # its memory is free before the next layer is put together
    return RoomyLayer(buffers[0], buffers[1], width)
