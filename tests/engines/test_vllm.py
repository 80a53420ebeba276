"""The calls of the engine vllm, checked against the signatures of the installed vLLM; needs the package, but no GPU.

test_contract.py checks its responses where vLLM can run.
"""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest

from tests import tiny
from tests.engines.test_transformers import prompts
from toolkit.core.errors import EngineError
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Failure, TransientError, open_engine
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import ModelConfig

INSTALLED = find_spec("vllm") is not None
needed = pytest.mark.skipif(not INSTALLED, reason="vLLM is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM warns a lot


def opened(checkpoint: Path, folder: Path, arguments: dict[str, Any] | None = None, **model: Any) -> Any:
    config = EngineConfig.model_validate({"name": "vllm", "vllm": arguments or {}})
    fields = {"name": "m", "checkpoint": str(checkpoint), "dtype": "float32", "max_tokens": 12, "base_rate": 1.0} | model
    return open_engine(config, ModelConfig.model_validate(fields), Workspace(folder, folder))


@needed
def test_every_call_fits_the_signatures_of_the_installed_package(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vllm
    from vllm.outputs import CompletionOutput, RequestOutput
    from vllm.v1.engine.core_client import EngineCoreClient
    from vllm.v1.engine.exceptions import EngineDeadError

    adapter = tiny.make_adapter(tmp_path / "adapter", llama)
    engine = opened(
        llama, tmp_path, {"gpu_memory_utilization": 0.5}, adapter=str(adapter), temperature=0.7, top_p=0.9, stop=["\n"]
    )
    batch = prompts(engine)
    ids = [engine.chat.tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("Paris", "12\nand", "sun")]
    generated = [(*ids[0], engine.chat.tokenizer.eos_token_id), ids[1], ids[2]]
    reasons = ["stop", "stop", "abort"]
    completions = [
        CompletionOutput(index=0, text="", token_ids=tokens, cumulative_logprob=None, logprobs=None, finish_reason=reason)
        for tokens, reason in zip(generated, reasons, strict=True)
    ]
    outputs = [
        RequestOutput(
            request_id="1",
            prompt=None,
            prompt_token_ids=[],
            prompt_logprobs=None,
            outputs=[completion],
            finished=True,
            num_cached_tokens=16,
        )
        for completion in completions
    ]
    llm = create_autospec(vllm.LLM, instance=True)
    llm.generate.return_value = outputs
    llm.llm_engine = create_autospec(vllm.LLMEngine, instance=True)
    llm.llm_engine.engine_core = create_autospec(EngineCoreClient, instance=True)
    opener = create_autospec(vllm.LLM, return_value=llm)
    monkeypatch.setattr(vllm, "LLM", opener)
    assert engine.generate(batch[:3]) == [
        Completion("Paris", engine.count("Paris"), "stop", cached_tokens=16),
        Completion("12", engine.count("12"), "stop", cached_tokens=16),
        Failure("vLLM ended the response with 'abort'", True),
    ]
    (_, arguments) = opener.call_args
    assert arguments.keys() <= {*inspect.signature(vllm.EngineArgs).parameters}
    assert arguments["enable_prefix_caching"] is True
    assert (arguments["dtype"], arguments["max_model_len"]) == ("float32", 256)
    assert Path(arguments["model"]).parent == tmp_path / "merged"
    sent, sampling = llm.generate.call_args.args
    assert [prompt["prompt_token_ids"] for prompt in sent] == [
        engine.chat.tokenizer(prompt.text, add_special_tokens=False)["input_ids"] for prompt in batch[:3]
    ]
    assert {parameters.seed for parameters in sampling} == {prompt.seed for prompt in batch[:3]}
    assert sampling[0].temperature == 0.7
    llm.generate.side_effect = EngineDeadError()
    with pytest.raises(TransientError):
        engine.generate(batch[:3])
    llm.llm_engine.engine_core.shutdown.assert_called_once_with()
    llm.generate.side_effect = None
    engine.generate(batch[:3])
    assert opener.call_count == 2


@needed
@pytest.mark.parametrize("arguments", [{"gpu_memory_use": 0.5}, {"dtype": "float16"}])
def test_arguments_that_vllm_does_not_accept_or_that_follow_from_the_suite_are_refused(
    llama: Path, tmp_path: Path, arguments: dict[str, Any]
) -> None:
    with pytest.raises(EngineError, match=next(iter(arguments))):
        opened(llama, tmp_path, arguments)


@needed
def test_a_device_that_vllm_does_not_run_on_is_refused(llama: Path, tmp_path: Path) -> None:
    config = EngineConfig(name="vllm", device="cuda:1")
    model = {"name": "m", "checkpoint": str(llama), "dtype": "float32", "max_tokens": 12, "base_rate": 1.0}
    with pytest.raises(EngineError, match="CUDA_VISIBLE_DEVICES"):
        open_engine(config, ModelConfig.model_validate(model), Workspace(tmp_path, tmp_path))


@pytest.mark.skipif(INSTALLED, reason="vLLM is installed")
def test_without_the_package_the_error_says_how_to_install_it(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"pip install 'vllm>="):
        opened(llama, tmp_path)
