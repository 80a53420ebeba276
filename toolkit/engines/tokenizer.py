"""How a checkpoint writes a chat, counts tokens and ends an answer; shared by all engines that run weights."""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from toolkit.core.errors import CheckpointError
from toolkit.engines import Completion, before_stop
from toolkit.suites.config import ModelConfig
from toolkit.suites.prompts import Message

RENDER_DATE = datetime(2026, 1, 1)
"""Templates that ask for today's date get this one, so that a prompt is the same on every day."""

_NOW = re.compile(r"""strftime_now\(\s*(['"])(?P<format>.*?)\1\s*\)""")


class ChatTokenizer:
    """The tokenizer of a model of the pool; equal prompts are equal whatever engine asks for them.

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
                f"Name an instruct model, or give chat_template for model {model.name!r}."
            )
        self._template = _NOW.sub(lambda found: repr(RENDER_DATE.strftime(found["format"])), template)
        self._arguments = {"date_string": RENDER_DATE.strftime("%d %b %Y"), **model.chat_template_args}
        self.context_length = model.context_length or int(getattr(config, "max_position_embeddings", 2048))
        self.ends = self._ends(path, config)

    def render(self, messages: Sequence[Message]) -> str:
        """Render a chat with the model's chat template and a fixed date."""
        return str(
            self.tokenizer.apply_chat_template(
                list(messages), chat_template=self._template, tokenize=False, add_generation_prompt=True, **self._arguments
            )
        )

    def count(self, text: str) -> int:
        """Return the length of a text in tokens; special tokens are counted only where the text holds them."""
        return len(self.tokens(text))

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def text(self, answer: Sequence[int]) -> str:
        """Return the text of tokens, marks left out."""
        return str(self.tokenizer.decode(answer, skip_special_tokens=True))

    def completion(self, answer: Sequence[int], stop: Sequence[str]) -> Completion:
        """Read what was generated: up to a mark that ends it or a text that does; without either it was cut."""
        ended = answer[-1] in self.ends
        response, stopped = before_stop(self.text(answer[:-1] if ended else answer), stop)
        return Completion(response, self.count(response), "stop" if stopped or ended else "length")

    def _ends(self, path: Path, config: Any) -> set[int]:
        """Return the marks that end an answer: those of the generation settings, else of the tokenizer.

        Nothing else is taken from these settings: they bring penalties and sampling, which would apply wherever the suite
        names none.
        """
        try:
            marks = GenerationConfig.from_pretrained(path).eos_token_id
        except OSError:
            marks = GenerationConfig.from_model_config(config).eos_token_id
        marks = self.tokenizer.eos_token_id if marks is None else marks
        return set(marks) if isinstance(marks, list) else {marks}
