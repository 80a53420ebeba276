"""How a checkpoint writes a chat, counts tokens and ends a response; shared by all engines that know the checkpoint."""

import inspect
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from toolkit.core.background import in_background
from toolkit.core.errors import CheckpointError
from toolkit.core.text import printable, well_formed
from toolkit.core.workspace import Workspace
from toolkit.engines.base import Completion, truncate_at_stop
from toolkit.suites.models import ModelConfig
from toolkit.suites.prompts import Message, messages
from toolkit.suites.weights import local_weights, unreadable

RENDER_DATE = datetime(2026, 1, 1)
"""What templates get that ask for today's date, so that a prompt is the same every day."""
DEFAULT_CONTEXT_LENGTH = 2048
"""Context length of a checkpoint that does not state its own."""
RENDER_SECONDS = 60.0
"""Longest time that a template may take for one chat when it is checked: milliseconds, but for a machine that is very busy."""
MAX_QUOTED = 300
"""Longest quotation of a template's error message, in characters."""

_NOW = re.compile(r"""strftime_now\(\s*(['"])(?P<format>.*?)\1\s*\)""")


class ChatTokenizer:
    """The tokenizer and chat template of a model.

    Args:
        model: The model.
        path: Folder with its tokenizer.

    Raises:
        CheckpointError: There is no tokenizer or no chat template, or the template takes none of the arguments.
    """

    def __init__(self, model: ModelConfig, path: Path) -> None:
        self.model = model
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(path, padding_side="left", trust_remote_code=False)
            config: Any = AutoConfig.from_pretrained(path, trust_remote_code=False)
        except Exception as error:  # libraries raise errors of their own for damaged files
            raise unreadable(model, error) from None
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._template, self._arguments = _fixed_date(model, model.chat_template or self._own_template())
        checkpoint_length = getattr(config, "max_position_embeddings", DEFAULT_CONTEXT_LENGTH)
        self.context_length = model.context_length or int(checkpoint_length)
        self.end_tokens = self._read_end_tokens(path, config)

    def render(self, messages: Sequence[Message]) -> str:
        """Render a chat with the model's chat template and a fixed date.

        Raises:
            CheckpointError: The template refuses the chat, or is not one.
        """
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages), chat_template=self._template, tokenize=False, add_generation_prompt=True, **self._arguments
            )
        except Exception as error:  # a template is a program
            raise _refused(self.model, messages, error) from None
        return well_formed(str(text))

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

    def _own_template(self) -> str:
        """Return the checkpoint's own template.

        Raises:
            CheckpointError: It has none.
        """
        try:
            return str(self.tokenizer.get_chat_template())
        except ValueError:
            raise CheckpointError(
                f"The checkpoint {self.model.checkpoint} has no chat template: it may be a base model. "
                f"Use an instruct model, or set chat_template for model {self.model.name!r}."
            ) from None

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


def check_template(model: ModelConfig, workspace: Workspace) -> None:
    """Check that a model's chat template renders its chats, as far as that needs no download.

    Args:
        model: The model.
        workspace: The suite file's folder, and the folder of downloads.

    Raises:
        CheckpointError: The template refuses a chat of the model, is not one, or does not end; or there is none.
    """
    chat = messages("refine-v1", model.system_prompt, model.few_shot, "A question?", ())
    if path := local_weights(model, workspace):
        _within_seconds(model, lambda: ChatTokenizer(model, path).render(chat))
    elif model.chat_template:
        template, arguments = _fixed_date(model, model.chat_template)
        try:
            _within_seconds(
                model,
                lambda: render_jinja_template([chat], chat_template=template, add_generation_prompt=True, **arguments),
            )
        except CheckpointError:
            raise
        except Exception as error:  # a template is a program
            raise _refused(model, chat, error) from None


def _within_seconds(model: ModelConfig, render: Callable[[], object]) -> None:
    """Call a function in a thread that does not keep the process, since nothing can end a template.

    Raises:
        CheckpointError: It does not end in time.
    """
    try:
        in_background(render).result(RENDER_SECONDS)
    except TimeoutError:
        raise CheckpointError(
            f"{_name(model)} has not rendered one short chat within {RENDER_SECONDS:g} s: it may never end. Set chat_template "
            f"for model {model.name!r} to one that does."
        ) from None


def _fixed_date(model: ModelConfig, template: str) -> tuple[str, dict[str, Any]]:
    """Return a template and its arguments, with a fixed date.

    Raises:
        CheckpointError: The suite sets an argument that is not the template's.
    """
    reserved = {*inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters, "messages"}
    if refused := sorted(reserved & model.chat_template_args.keys()):
        raise CheckpointError(
            f"chat_template_args of model {model.name!r} sets {', '.join(refused)}, which the toolkit sets itself. Remove it."
        )
    template = _NOW.sub(lambda match: repr(RENDER_DATE.strftime(match["format"])), template)
    return template, {"date_string": RENDER_DATE.strftime("%d %b %Y"), **model.chat_template_args}


def _refused(model: ModelConfig, chat: Sequence[Message], error: Exception) -> CheckpointError:
    """Return the error that a template raises for a chat, with the settings that the chat follows from."""
    remedies = [
        *(["remove system_prompt, or write it into the benchmark's prompt"] if model.system_prompt is not None else []),
        *(["remove few_shot"] if model.few_shot else []),
        *(["correct chat_template_args"] if model.chat_template_args else []),
        "correct chat_template" if model.chat_template else "set chat_template to one that takes them",
    ]
    roles = ", ".join(message["role"] for message in chat)
    reason = printable(" ".join(str(error).split())[:MAX_QUOTED])
    return CheckpointError(
        f"{_name(model)} does not render a chat of these messages: {roles}. It says: {type(error).__name__}: {reason}. "
        f"For model {model.name!r}, {', or '.join(remedies)}."
    )


def _name(model: ModelConfig) -> str:
    source = "in the suite" if model.chat_template else f"of the checkpoint {model.checkpoint}"
    return f"The chat template of model {model.name!r} ({source})"
