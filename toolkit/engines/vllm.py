"""vLLM, by its offline class LLM: continuous batching, automatic prefix caching, LoRA adapters beside the weights.

All of a batch is one call, and vLLM schedules it; what it generates is read by our own tokenizer, so that text, tokens and the
reason to end are those that the engine transformers reports.
"""

import gc
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.core.errors import CheckpointError, EngineError
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Failure, Prompt, TransientError
from toolkit.engines.tokenizer import ChatTokenizer
from toolkit.suites.config import EngineConfig, ModelConfig
from toolkit.suites.prompts import Message
from toolkit.suites.weights import fetch, local_path

try:
    import vllm
    from vllm.lora.request import LoRARequest
    from vllm.platforms import current_platform
    from vllm.v1.engine.exceptions import EngineDeadError
except ImportError as error:
    raise EngineError(
        f"The engine vllm needs vLLM, which cannot be imported ({error}). Install it: pip install 'hierrouter-toolkit[vllm]'"
    ) from None

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as the highest rank of an adapter (vllm.config.lora.MaxLoRARanks)."""

ARGUMENTS = frozenset(inspect.signature(vllm.LLM).parameters) | frozenset(inspect.signature(vllm.EngineArgs).parameters)
"""What LLM takes: its own arguments, and as keywords those of EngineArgs."""


class VllmEngine:
    """One checkpoint in vLLM, with its adapter beside the weights.

    Args:
        config: Of the engine; `vllm` holds further arguments of `vllm.LLM`.
        model: The model.
        workspace: The suite file's folder, and the folder of downloads.

    Raises:
        CheckpointError: The weights cannot be had.
        EngineError: vLLM does not run on that device, or does not know an argument.
    """

    def __init__(self, config: EngineConfig, model: ModelConfig, workspace: Workspace) -> None:
        self.label = f"vllm {vllm.__version__}"
        self.model = model
        if config.device not in ("auto", current_platform.device_type):
            raise EngineError(
                f"The vLLM that is installed runs on {current_platform.device_type!r}; the suite asks for {config.device!r}. "
                'Use device = "auto" under [engine]; which GPUs it sees is said by CUDA_VISIBLE_DEVICES.'
            )
        adapter = local_path(model.adapter, workspace) if model.adapter else None
        self.path = fetch(model, workspace)
        self.chat = ChatTokenizer(model, self.path)
        self.context_length = self.chat.context_length
        self._adapter = LoRARequest(model.name, 1, str(adapter)) if adapter else None
        self._arguments = self._ours(adapter)
        if unknown := config.vllm.keys() - (ARGUMENTS - self._arguments.keys()):
            raise EngineError(
                f"[engine.vllm] has {', '.join(sorted(unknown))}, which vllm.LLM of version {vllm.__version__} does not take, "
                "or which follows from the suite. Leave it out."
            )
        self._arguments |= config.vllm
        self._llm: Any = None

    def render(self, messages: Sequence[Message]) -> str:
        """Render a chat with the model's chat template."""
        return self.chat.render(messages)

    def count(self, text: str) -> int:
        """Return the length of a text in tokens."""
        return self.chat.count(text)

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion | Failure]:
        """Answer a batch in one call.

        Raises:
            TransientError: vLLM's own process has ended; the next call starts it anew.
        """
        tokens = self.chat.tokenizer([prompt.text for prompt in prompts], add_special_tokens=False)["input_ids"]
        try:
            outputs = self._resident().generate(
                [vllm.TokensPrompt(prompt_token_ids=ids) for ids in tokens],
                [self._sampling(prompt) for prompt in prompts],
                use_tqdm=False,
                lora_request=self._adapter,
            )
        except EngineDeadError as error:
            self.close()
            raise TransientError(str(error)) from None
        return [self._completion(output.outputs[0]) for output in outputs]

    def close(self) -> None:
        """End vLLM's processes, which frees the weights."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            gc.collect()

    def _ours(self, adapter: Path | None) -> dict[str, Any]:
        """Return the arguments of LLM that follow from the suite."""
        arguments: dict[str, Any] = {
            "model": str(self.path),
            "dtype": self.model.dtype,
            "max_model_len": self.context_length,
            "enable_prefix_caching": True,
            "generation_config": "vllm",  # none of the checkpoint's own settings: the suite's win
            "enable_lora": adapter is not None,
        }
        if adapter:
            rank = int(json.loads((adapter / "adapter_config.json").read_text("utf-8"))["r"])
            arguments |= {"max_lora_rank": next((r for r in LORA_RANKS if r >= rank), rank), "max_loras": 1}
        return arguments

    def _sampling(self, prompt: Prompt) -> vllm.SamplingParams:
        """Return how to answer a prompt; its noise follows from its own seed, not from its batch."""
        model = self.model
        noise = {"top_p": model.top_p, "seed": prompt.seed} if model.temperature > 0 else {}
        return vllm.SamplingParams(
            temperature=model.temperature,
            max_tokens=model.max_tokens,
            stop=list(model.stop),
            stop_token_ids=sorted(self.chat.ends),
            ignore_eos=True,  # the marks above are all that end an answer
            **noise,
        )

    def _completion(self, output: Any) -> Completion | Failure:
        if output.finish_reason not in ("stop", "length"):
            return Failure(f"vLLM ended the answer with {output.finish_reason!r}", True)
        return self.chat.completion(output.token_ids, self.model.stop)

    def _resident(self) -> Any:
        """Load the weights, once."""
        if self._llm is None:
            try:
                self._llm = vllm.LLM(**self._arguments)
            except OSError as error:
                raise CheckpointError(f"The weights of model {self.model.name!r} cannot be loaded: {error}") from None
            except (ValueError, RuntimeError) as error:
                raise EngineError(
                    f"vLLM does not start with model {self.model.name!r}: {' '.join(str(error).split())[:500]} "
                    "What its own process said stands above. Where memory does not suffice, set gpu_memory_utilization, or "
                    "a shorter context_length of the model."
                ) from None
        return self._llm
