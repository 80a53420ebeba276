"""The embedded engine: Hugging Face transformers on CPU or GPU, LoRA adapters merged by PEFT."""

import warnings
from collections.abc import Sequence

import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from toolkit.core.errors import CheckpointError, EngineError
from toolkit.core.workspace import Workspace
from toolkit.engines import BatchTooLargeError, Completion, Prompt, before_stop
from toolkit.engines.decoding import Decoder
from toolkit.engines.tokenizer import ChatTokenizer
from toolkit.suites.config import EngineConfig, ModelConfig
from toolkit.suites.prompts import Message
from toolkit.suites.weights import fetch, local_path

transformers_logging.disable_progress_bar()  # ours is the one on stderr


class SeededNoise:
    """Samples by the Gumbel-max trick: noise is added per row from the row's own seed, then the largest logit is taken.

    The noise of a prompt therefore depends on its key alone, never on the batch it happens to be in.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperature = temperature
        self.top_p = top_p

    def __call__(self, logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Return the perturbed logits, `(rows, vocabulary)`, of the prompts with these numbers."""
        logits = logits / self.temperature
        if self.top_p < 1:
            ordered, order = logits.sort(dim=-1, descending=True)
            before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
            logits = logits.masked_fill((before >= self.top_p).scatter(-1, order, before >= self.top_p), -torch.inf)
        noise = torch.stack(
            [torch.empty(logits.shape[-1]).exponential_(generator=g) for g in (self.generators[n] for n in rows)]
        )
        return logits - noise.to(logits.device).log()


class TransformersEngine:
    """One checkpoint, with its adapter merged into the weights, decoding greedily or by seeded sampling."""

    def __init__(self, config: EngineConfig, model: ModelConfig, workspace: Workspace) -> None:
        self.label = f"transformers {transformers.__version__}, torch {torch.__version__}"
        self.config = model
        self.device = _device(config.device)
        self.adapter = local_path(model.adapter, workspace) if model.adapter else None
        self.path = fetch(model, workspace)
        self.chat = ChatTokenizer(model, self.path)
        self.tokenizer = self.chat.tokenizer
        self.context_length = self.chat.context_length
        self._decoder: Decoder | None = None
        self._reach = 1 + max((len(stop.encode()) for stop in model.stop), default=0)  # a token is a byte or more

    def render(self, messages: Sequence[Message]) -> str:
        """Render a chat with the model's chat template."""
        return self.chat.render(messages)

    def count(self, text: str) -> int:
        """Return the length of a text in tokens."""
        return self.chat.count(text)

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Answer a batch."""
        decoder = self._resident()
        tokens = self.tokenizer([prompt.text for prompt in prompts], add_special_tokens=False)["input_ids"]
        choose = greedy
        if self.config.temperature > 0:
            noise = SeededNoise([prompt.seed for prompt in prompts], self.config.temperature, self.config.top_p)

            def choose(logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
                return noise(logits, rows).argmax(-1)

        try:
            with torch.inference_mode():
                answers = decoder.decode(tokens, choose, self._stopped)
        except (torch.OutOfMemoryError, MemoryError) as error:
            self._empty_cache()
            raise BatchTooLargeError(str(error)) from None
        except RuntimeError as error:
            if "memory" not in str(error).lower():  # what CPU and MPS allocators say
                raise
            self._empty_cache()
            raise BatchTooLargeError(str(error)) from None
        return [self.chat.completion(answer, self.config.stop) for answer in answers]

    def close(self) -> None:
        """Free the weights."""
        self._decoder = None
        self._empty_cache()

    def _stopped(self, answer: Sequence[int]) -> bool:
        """Tell whether an answer has come to a text that ends it; only its last tokens are read until they hold one."""
        if not self.config.stop:
            return False
        last = self.chat.text(answer[-self._reach :])
        return before_stop(last, self.config.stop)[1] and before_stop(self.chat.text(answer), self.config.stop)[1]

    def _resident(self) -> Decoder:
        """Load the weights, once."""
        if self._decoder is None:
            assert self.config.dtype
            dtype = getattr(torch, self.config.dtype)
            try:
                model = AutoModelForCausalLM.from_pretrained(self.path, dtype=dtype)
                if self.adapter:
                    from peft import PeftModel

                    with warnings.catch_warnings():  # peft reads an attribute that transformers is about to rename
                        warnings.simplefilter("ignore", FutureWarning)
                        model = PeftModel.from_pretrained(model, self.adapter).merge_and_unload()
            except (OSError, ValueError, ImportError) as error:
                raise CheckpointError(f"The weights of model {self.config.name!r} cannot be loaded: {error}") from None
            model = model.to(self.device).eval()
            self._decoder = Decoder(model, self.chat.ends, self.tokenizer.pad_token_id, self.config.max_tokens)
        return self._decoder

    def _empty_cache(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def greedy(logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """Choose the likeliest token of every row."""
    return logits.argmax(-1)


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
