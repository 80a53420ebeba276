"""A process with one engine that responds to requests on its standard input, a JSON object per line, until that is closed.

`programs.py` starts it, for vLLM with the Python of another environment: nothing of the toolkit is imported outside of the
engines that need it.
"""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

Request = dict[str, Any]
"""`prompts` with their `text` and `tokens`, and the engine's own settings of a run."""
Reply = dict[str, Any]
"""`completions` or the responses' `ids`, and optionally `cached_tokens`, `peak` (bytes on the device) and `seconds`."""


class Toolkit:
    """The toolkit's own engine, run by its guard, or transformers' `model.generate` with the same weights.

    Args:
        settings: `model` and `engine`, as in a suite file.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        from pathlib import Path

        from toolkit.core.workspace import Workspace
        from toolkit.engines.guard import GuardedEngine, TokenBudget
        from toolkit.engines.transformers import TransformersEngine
        from toolkit.suites.config import EngineConfig
        from toolkit.suites.models import ModelConfig

        self.config = EngineConfig.model_validate(settings["engine"])
        self.model = ModelConfig.model_validate(settings["model"])
        self.engine = TransformersEngine(self.config, self.model, Workspace(Path(), Path()))
        budget = TokenBudget(self.config.token_budget)
        self.guard = GuardedEngine(lambda: self.engine, self.model.max_tokens, budget, 600)

    def run(self, request: Request) -> Reply:
        """Respond in batches of `batch_tokens`, or by `model.generate` in batches of `rows`.

        With `profile`, return only the seconds of each kind of operation; with `by_length`, the longest prompts come first.
        """
        if "rows" in request:
            return self._model_generate([prompt["tokens"] for prompt in request["prompts"]], request["rows"])
        from toolkit.engines import Completion, Prompt

        prompts = [Prompt(text=prompt["text"], tokens=len(prompt["tokens"]), seed=0) for prompt in request["prompts"]]
        order = list(range(len(prompts)))
        if request.get("by_length"):
            order.sort(key=lambda index: -prompts[index].tokens)
        self.guard.token_budget.tokens = request.get("batch_tokens") or self.config.token_budget
        if request.get("profile"):
            from tests.benchmarks.operations import seconds_by_kind

            return {"seconds": seconds_by_kind(lambda: self.guard.generate(prompts), self.engine.device)}
        outcomes = dict(zip(order, self.guard.generate([prompts[index] for index in order]), strict=True))
        completions = [outcome for _, outcome in sorted(outcomes.items()) if isinstance(outcome, Completion)]
        if len(completions) < len(outcomes):
            raise RuntimeError(f"some prompts have no response: {set(outcomes.values()) - set(completions)}")
        cached_tokens = sum(getattr(completion, "cached_tokens", None) or 0 for completion in completions)
        return {"completions": completions, "cached_tokens": cached_tokens}

    def _model_generate(self, prompts: Sequence[list[int]], rows: int) -> Reply:
        """Respond by `model.generate`, with the same kernels of attention, to `rows` prompts at a time, longest first."""
        import torch
        from torch.nn.attention import sdpa_kernel

        from toolkit.engines.decoding import ATTENTION_BACKENDS

        decoder = self.engine._load()
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        responses: dict[int, list[int]] = {}
        for start in range(0, len(order), rows):
            part = order[start : start + rows]
            width = len(prompts[part[0]])
            ids = torch.tensor([[decoder.pad_token] * (width - len(prompts[index])) + prompts[index] for index in part])
            mask = torch.tensor([[0] * (width - len(prompts[index])) + [1] * len(prompts[index]) for index in part])
            device = self.engine.device
            with torch.inference_mode(), sdpa_kernel(ATTENTION_BACKENDS):
                sequences = decoder.model.generate(input_ids=ids.to(device), attention_mask=mask.to(device))
            responses |= zip(part, (_trim(row, decoder.end_tokens) for row in sequences[:, width:].tolist()), strict=True)
        return {"ids": [responses[index] for index in range(len(prompts))]}


class Vllm:
    """vLLM with prefix caching, called through its class LLM with all prompts at once, sorted so that siblings meet.

    Args:
        settings: `arguments` of LLM, `end_tokens` and `max_tokens`.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        from vllm import LLM, SamplingParams

        self.llm = LLM(enable_prefix_caching=True, generation_config="vllm", **settings["arguments"])
        ends, longest = settings["end_tokens"], settings["max_tokens"]
        self.sampling = SamplingParams(
            temperature=0, max_tokens=longest, ignore_eos=True, stop_token_ids=ends, detokenize=False
        )

    def run(self, request: Request) -> Reply:
        """Respond to all prompts; nothing that an earlier run has read counts as cached."""
        from vllm import TokensPrompt

        self.llm.reset_prefix_cache()
        prompts = [prompt["tokens"] for prompt in request["prompts"]]
        order = sorted(range(len(prompts)), key=prompts.__getitem__)
        outputs = self.llm.generate(
            [TokensPrompt(prompt_token_ids=prompts[index]) for index in order], self.sampling, use_tqdm=False
        )
        responses = dict(zip(order, outputs, strict=True))
        return {
            "ids": [list(responses[index].outputs[0].token_ids) for index in range(len(prompts))],
            "cached_tokens": sum(output.num_cached_tokens or 0 for output in outputs),
        }


ENGINES = {"toolkit": Toolkit, "vllm": Vllm}


def _trim(response: Sequence[int], ends: set[int]) -> list[int]:
    """Cut a response after its first end token."""
    return list(response[: next((n for n, token in enumerate(response, 1) if token in ends), len(response))])


def _device_peak() -> int | None:
    """Return the most bytes that this process held on a GPU since the last call, and free what it needs no more; or None."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    peak = int(torch.cuda.max_memory_allocated())
    torch.cuda.empty_cache()  # for the programs beside it
    torch.cuda.reset_peak_memory_stats()
    return peak


def serve(requests: TextIO, replies: TextIO, name: str, settings: dict[str, Any]) -> None:
    """Open an engine, say so, and reply to requests."""
    engine: Any = ENGINES[name](settings)
    print(json.dumps({"pid": os.getpid()}), file=replies, flush=True)
    for line in requests:
        _device_peak()
        reply = engine.run(json.loads(line))
        print(json.dumps({"peak": _device_peak(), **reply}), file=replies, flush=True)


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "w") as output:
        os.dup2(2, 1)  # libraries print to standard output, which carries replies alone
        serve(sys.stdin, output, sys.argv[1], json.loads(sys.argv[2]))
