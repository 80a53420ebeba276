"""vLLM through its offline class LLM: continuous batching, automatic prefix caching, LoRA adapters merged into the weights.

A batch is one call, which vLLM schedules. Generated tokens are decoded by the toolkit's own tokenizer, so that text, token
counts and finish reasons are those of the engine transformers.
"""

import gc
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from toolkit.core.errors import CheckpointError, EngineError
from toolkit.core.workspace import Workspace
from toolkit.engines.base import Failure, Outcome, Prompt, TransientError, library_required, this_machine
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import ModelConfig
from toolkit.suites.prompts import Message
from toolkit.suites.section import Section
from toolkit.suites.weights import fetch, local_path, unreadable

REQUIREMENT = "vllm>=0.32"

MAX_QUOTED = 500
"""Longest quotation of vLLM's error message, in characters."""


PERFORMANCE = frozenset(
    [
        "block_size",
        "cpu_offload_gb",
        "data_parallel_size",
        "disable_custom_all_reduce",
        "disable_log_stats",
        "distributed_executor_backend",
        "enable_chunked_prefill",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "max_num_batched_tokens",
        "max_num_seqs",
        "max_parallel_loading_workers",
        "num_gpu_blocks_override",
        "pipeline_parallel_size",
        "swap_space",
        "tensor_parallel_size",
    ]
)
"""Arguments of vllm.LLM that a suite may set: they change how fast responses come, and neither what they are nor what runs."""


class VllmSettings(Section):
    """Further arguments of vllm.LLM, e.g. gpu_memory_utilization = 0.8.

    None may affect the responses, since they are part of no key.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str | int | float | bool]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments, by name."""
        return dict(self.__pydantic_extra__)


class VllmEngine:
    """Runs checkpoints with vLLM in this process: continuous batching, prefix caching, adapters merged into the weights.

    Args:
        config: The suite's `[engine]` table; `[engine.vllm]` holds `VllmSettings`.
        model: The model.
        workspace: The suite file's folder, and the folder of downloads.

    Raises:
        CheckpointError: The weights are not available.
        EngineError: vLLM is not installed, does not run on the device, or does not accept an argument.
    """

    default_batch_tokens = 2**18  # vLLM forms its own batches from these
    needs_weights = True
    in_process = False
    machine = staticmethod(this_machine)

    @staticmethod
    def check_model(config: EngineConfig, model: ModelConfig, workspace: Workspace) -> None:
        """Check the model's chat template, as far as that needs no download."""
        from toolkit.engines.tokenizer import check_template

        check_template(model, workspace)

    def __init__(self, config: EngineConfig, model: ModelConfig, workspace: Workspace) -> None:
        with library_required("The engine vllm", REQUIREMENT):
            import vllm
            from vllm.platforms import current_platform
        from toolkit.engines.tokenizer import ChatTokenizer

        self.label = f"vllm {vllm.__version__}"
        self.model = model
        if config.device not in ("auto", current_platform.device_type):
            raise EngineError(
                f"The installed vLLM runs on {current_platform.device_type!r}; the suite asks for {config.device!r}. "
                'Use device = "auto" under [engine]; CUDA_VISIBLE_DEVICES chooses the GPUs.'
            )
        self.adapter = local_path(model.adapter, workspace) if model.adapter else None
        self.downloads = workspace.downloads
        self.path = fetch(model, workspace)
        self.chat = ChatTokenizer(model, self.path)
        self.context_length = self.chat.context_length
        self._arguments = self._suite_arguments()
        self._arguments |= self._further_arguments(config)
        self._llm: Any = None

    def render(self, messages: Sequence[Message]) -> str:
        """Render a chat with the model's chat template."""
        return self.chat.render(messages)

    def count(self, text: str) -> int:
        """Return the length of a text in tokens."""
        return self.chat.count(text)

    def generate(self, prompts: Sequence[Prompt]) -> list[Outcome]:
        """Generate a response to every prompt of a batch, in one call.

        Raises:
            CheckpointError: The weights cannot be loaded.
            EngineError: vLLM does not start.
            TransientError: vLLM's own process has ended; the next call restarts it.
        """
        from vllm import TokensPrompt
        from vllm.v1.engine.exceptions import EngineDeadError

        tokens = self.chat.tokenizer([prompt.text for prompt in prompts], add_special_tokens=False)["input_ids"]
        try:
            outputs = self._load().generate(
                [TokensPrompt(prompt_token_ids=ids) for ids in tokens],
                [self._sampling(prompt) for prompt in prompts],
                use_tqdm=False,
            )
        except EngineDeadError as error:
            self.close()
            raise TransientError(str(error)) from None
        return [self._outcome(output) for output in outputs]

    def close(self) -> None:
        """End vLLM's processes, which frees the weights."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            gc.collect()

    def _suite_arguments(self) -> dict[str, Any]:
        """Return the arguments of LLM that follow from the suite."""
        return {
            "model": str(self.path),
            "dtype": self.model.dtype,
            "max_model_len": self.context_length,
            "enable_prefix_caching": True,
            "trust_remote_code": False,
            "generation_config": "vllm",  # the suite's settings apply, and none of the checkpoint's own
        }

    def _further_arguments(self, config: EngineConfig) -> dict[str, Any]:
        """Return the arguments of LLM in `[engine.vllm]`.

        Raises:
            EngineError: LLM does not accept one of them, or it follows from the suite.
        """
        import vllm

        arguments = config.settings(VllmSettings).arguments
        accepted = {*inspect.signature(vllm.LLM).parameters, *inspect.signature(vllm.EngineArgs).parameters} & PERFORMANCE
        if refused := arguments.keys() - (accepted - self._arguments.keys()):
            raise EngineError(
                f"[engine.vllm] sets {', '.join(sorted(refused))}, which vllm.LLM of version {vllm.__version__} does not "
                f"accept, or which may affect responses or run code. Remove it; allowed: {', '.join(sorted(PERFORMANCE))}."
            )
        return arguments

    def _sampling(self, prompt: Prompt) -> Any:
        """Return the sampling parameters of a prompt; its noise follows from its own seed, not from its batch."""
        from vllm import SamplingParams

        model = self.model
        noise = {"top_p": model.top_p, "seed": prompt.seed} if model.temperature > 0 else {}
        return SamplingParams(
            temperature=model.temperature,
            max_tokens=model.max_tokens,
            stop=list(model.stop),
            stop_token_ids=sorted(self.chat.end_tokens),
            ignore_eos=True,  # only the tokens above end a response
            **noise,
        )

    def _outcome(self, request: Any) -> Outcome:
        """Return what became of a request, a `vllm.RequestOutput`."""
        output = request.outputs[0]
        if output.finish_reason not in ("stop", "length"):
            return Failure(f"vLLM ended the response with {output.finish_reason!r}", True)
        return self.chat.completion(output.token_ids, self.model.stop)._replace(cached_tokens=request.num_cached_tokens)

    def _load(self) -> Any:
        """Load the weights, once."""
        import vllm

        if self._llm is None:
            try:
                self._llm = vllm.LLM(**self._arguments | {"model": str(self._merged())})
            except OSError as error:
                raise CheckpointError(f"The weights of model {self.model.name!r} cannot be loaded: {error}") from None
            except (ValueError, RuntimeError) as error:
                raise EngineError(
                    f"vLLM does not start with model {self.model.name!r}: {' '.join(str(error).split())[:MAX_QUOTED]} "
                    "The output of its own process is above. If memory does not suffice, set gpu_memory_utilization under "
                    "[engine.vllm], or a shorter context_length for the model."
                ) from None
        return self._llm

    def _merged(self) -> Path:
        """Return the checkpoint with the adapter merged: on a CPU, adapters beside the weights are many times slower."""
        if not self.adapter:
            return self.path
        from toolkit.engines.merging import merged

        assert self.model.dtype
        try:
            return merged(self.path, self.adapter, self.model.dtype, self.downloads)
        except Exception as error:  # libraries raise errors of their own for files that are damaged or hold pickles
            raise unreadable(self.model, error) from None
