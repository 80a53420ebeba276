"""The embedded engine: Hugging Face transformers on CPU or GPU. `decoding.py` has the decoding loop."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit.core.workspace import Workspace
from toolkit.engines.base import Completion, Prompt, this_machine, truncate_at_stop
from toolkit.engines.memory import available_memory, memory, read_ahead
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import ModelConfig
from toolkit.suites.prompts import Message
from toolkit.suites.weights import fetch, local_path, unreadable

if TYPE_CHECKING:
    from toolkit.engines.decoding import Decoder

LOADING = threading.Lock()
"""Held while weights are loaded: the library cannot load two models at once."""


class TransformersEngine:
    """Runs checkpoints on this machine's CPU or GPU, LoRA adapters merged into the weights.

    Decodes greedily, or samples with a seed per prompt.

    Args:
        config: The suite's `[engine]` table; `device` is used.
        model: The model.
        workspace: The suite file's folder, and the folder of downloads.

    Raises:
        CheckpointError: The weights are not available.
        EngineError: The device is not available.
    """

    default_batch_tokens = 24_576
    rounds = 4
    needs_weights = True
    in_process = True
    machine = staticmethod(this_machine)

    @staticmethod
    def check_model(config: EngineConfig, model: ModelConfig, workspace: Workspace) -> None:
        """Check the model's chat template, as far as that needs no download."""
        from toolkit.engines.tokenizer import check_template

        check_template(model, workspace)

    def __init__(self, config: EngineConfig, model: ModelConfig, workspace: Workspace) -> None:
        import torch
        import transformers

        from toolkit.engines.decoding import choose_device
        from toolkit.engines.tokenizer import ChatTokenizer

        self.label = f"transformers {transformers.__version__}, torch {torch.__version__}"
        self.model = model
        self.workspace = workspace
        self.device = choose_device(config.device)
        self.batch_tokens = config.token_budget
        self.adapter = local_path(model.adapter, workspace) if model.adapter else None
        self.path = fetch(model, workspace)
        self.chat = ChatTokenizer(model, self.path)
        self.tokenizer = self.chat.tokenizer
        self.context_length = self.chat.context_length
        self._decoder: Decoder | None = None
        longest_stop = max((len(stop.encode()) for stop in model.stop), default=0)
        self._stop_window = 1 + longest_stop  # in tokens: each is a byte or more

    def render(self, messages: Sequence[Message]) -> str:
        """Render a chat with the model's chat template."""
        return self.chat.render(messages)

    def count(self, text: str) -> int:
        """Return the length of a text in tokens."""
        return self.chat.count(text)

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Generate a response to every prompt of a batch.

        Raises:
            BatchTooLargeError: The batch does not fit into memory.
            CheckpointError: The weights cannot be loaded.
        """
        from toolkit.engines.decoding import TokenChooser

        decoder = self._load()
        tokens = self.tokenizer([prompt.text for prompt in prompts], add_special_tokens=False)["input_ids"]
        choose_tokens = TokenChooser([prompt.seed for prompt in prompts], self.model.temperature, self.model.top_p)
        decoded = decoder.decode(tokens, choose_tokens, self._is_finished, self.batch_tokens)
        return [
            self.chat.completion(response.tokens, self.model.stop)._replace(cached_tokens=response.cached_tokens)
            for response in decoded
        ]

    def load(self) -> None:
        """Prepare the weights while another engine works, if there is memory for both.

        On a CPU, float32 weights are loaded. Others are only read into the system's cache of files: loading them sets PyTorch's
        default dtype for all threads, and a device has the memory of one model.
        """
        size = memory(self.model, self.workspace)
        if size is None or size.weights > available_memory():
            return
        if self.device.type == "cpu" and self.model.dtype == "float32":
            self._load()
        else:
            read_ahead(self.path)

    def close(self) -> None:
        """Free the weights."""
        import torch

        self._decoder = None
        torch.cuda.empty_cache()

    def _is_finished(self, response: Sequence[int]) -> bool:
        """Tell whether a response contains a stop string; only its last tokens are decoded until they contain one."""
        if not self.model.stop:
            return False
        latest = self.chat.decode(response[-self._stop_window :])
        stop = self.model.stop
        return truncate_at_stop(latest, stop)[1] and truncate_at_stop(self.chat.decode(response), stop)[1]

    def _load(self) -> "Decoder":
        """Load the weights, once."""
        from toolkit.engines.decoding import Decoder, load_model

        if self._decoder is None:
            assert self.model.dtype
            try:
                with LOADING:
                    weights = load_model(self.path, self.adapter, self.model.dtype, self.device)
            except Exception as error:  # libraries raise errors of their own for files that are damaged or hold pickles
                raise unreadable(self.model, error) from None
            self._decoder = Decoder(weights, self.chat.end_tokens, self.tokenizer.pad_token_id, self.model.max_tokens)
        return self._decoder
