"""How a checkpoint writes a chat, counts tokens and ends a response; shared by all engines that know the checkpoint."""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from toolkit.core.errors import CheckpointError
from toolkit.core.text import well_formed
from toolkit.engines.base import Completion, truncate_at_stop
from toolkit.suites.models import ModelConfig
from toolkit.suites.prompts import Message

RENDER_DATE = datetime(2026, 1, 1)
"""What templates get that ask for today's date, so that a prompt is the same every day."""
DEFAULT_CONTEXT_LENGTH = 2048
"""Context length of a checkpoint that does not state its own."""

_NOW = re.compile(r"""strftime_now\(\s*(['"])(?P<format>.*?)\1\s*\)""")


class ChatTokenizer:
    """The tokenizer and chat template of a model.

    Args:
        model: The model.
        path: Folder with its tokenizer.

    Raises:
        CheckpointError: There is no tokenizer, or no chat template.
    """

    def __init__(self, model: ModelConfig, path: Path) -> None:
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(path, padding_side="left")
            config: Any = AutoConfig.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"The checkpoint {model.checkpoint} cannot be read by transformers: {error}") from None
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        template = model.chat_template or self.tokenizer.chat_template
        if not template:
            raise CheckpointError(
                f"The checkpoint {model.checkpoint} has no chat template: it may be a base model. "
                f"Use an instruct model, or set chat_template for model {model.name!r}."
            )
        self._template = _NOW.sub(lambda match: repr(RENDER_DATE.strftime(match["format"])), template)
        self._arguments = {"date_string": RENDER_DATE.strftime("%d %b %Y"), **model.chat_template_args}
        checkpoint_length = getattr(config, "max_position_embeddings", DEFAULT_CONTEXT_LENGTH)
        self.context_length = model.context_length or int(checkpoint_length)
        self.end_tokens = self._read_end_tokens(path, config)

    def render(self, messages: Sequence[Message]) -> str:
        """Render a chat with the model's chat template and a fixed date."""
        return str(
            self.tokenizer.apply_chat_template(
                list(messages), chat_template=self._template, tokenize=False, add_generation_prompt=True, **self._arguments
            )
        )

    def count(self, text: str) -> int:
        """Return the length of a text in tokens; special tokens count only if the text contains them."""
        return len(self.encode(text))

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, as it is stored."""
        return list(self.tokenizer(well_formed(text), add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, without special tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def completion(self, tokens: Sequence[int], stop: Sequence[str]) -> Completion:
        """Convert generated tokens: up to an end token or a stop string, else the response was cut off."""
        ended = tokens[-1] in self.end_tokens
        response, stopped = truncate_at_stop(self.decode(tokens[:-1] if ended else tokens), stop)
        return Completion(
            response=response,
            completion_tokens=self.count(response),
            finish_reason="stop" if stopped or ended else "length",
        )

    def _read_end_tokens(self, path: Path, config: Any) -> set[int]:
        """Return the tokens that end a response: those of the generation settings, else of the tokenizer.

        Nothing else of these settings is used: their penalties and sampling would apply wherever the suite sets none.
        """
        try:
            end_tokens = GenerationConfig.from_pretrained(path).eos_token_id
        except OSError:
            end_tokens = GenerationConfig.from_model_config(config).eos_token_id
        end_tokens = self.tokenizer.eos_token_id if end_tokens is None else end_tokens
        return set(end_tokens) if isinstance(end_tokens, list) else {end_tokens}
