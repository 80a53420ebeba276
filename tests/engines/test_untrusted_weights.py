"""Checkpoints and templates of other people: they run no code, and what cannot be used is said before work starts."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.scripted import encode, resolve_config, suite_config
from toolkit.cli import app
from toolkit.core.errors import CheckpointError
from toolkit.core.workspace import Workspace
from toolkit.engines import Prompt, check_models, tokenizer
from toolkit.engines.encoder import load_encoder
from toolkit.engines.tokenizer import ChatTokenizer, check_template
from toolkit.engines.transformers import TransformersEngine
from toolkit.generation.generate import generate
from toolkit.store import Cache
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import ModelConfig, Weights
from toolkit.suites.prompts import messages

NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}{{ messages[-1]['content'] }}"
)
ALTERNATE = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m['content'] }}{% endfor %}"
)
ONE_TURN = "{% if messages | length > 1 %}{{ raise_exception('one message only') }}{% endif %}{{ messages[0]['content'] }}"
REFUSALS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no system role": ({"system_prompt": "s"}, NO_SYSTEM, "remove system_prompt"),
    "roles alternate": ({"system_prompt": "s"}, ALTERNATE, "remove system_prompt"),
    "no examples": ({"few_shot": [{"user": "u", "assistant": "a"}]}, ONE_TURN, "remove few_shot"),
    "an argument of the wrong type": ({"chat_template_args": {"n": "x"}}, "{{ n + 1 }}", "correct chat_template_args"),
    "division by zero": ({}, "{{ 1 / 0 }}", "ZeroDivisionError"),
    "something undefined": ({}, "{{ nothing.at.all }}", "UndefinedError"),
    "not allowed in the sandbox": ({}, "{{ messages.append(1) }}", "SecurityError"),
    "an unknown filter": ({}, "{{ 1 | nosuchfilter }}", "nosuchfilter"),
    "endless recursion": ({}, "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
}


def model(checkpoint: str = "made/up", **fields: Any) -> ModelConfig:
    document = {"name": "m", "checkpoint": checkpoint, "dtype": "float32", "base_rate": 1.0, "max_tokens": 4} | fields
    return ModelConfig.model_validate(document | ({"revision": "0" * 40} if checkpoint == "made/up" else {}))


@pytest.fixture
def checkpoint(llama: Path, tmp_path: Path) -> Path:
    return shutil.copytree(llama, tmp_path / "checkpoint")


def own_template(checkpoint: Path, template: str) -> None:
    """Replace the template of a checkpoint."""
    config = json.loads((checkpoint / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(config))
    (checkpoint / "chat_template.jinja").write_text(template)


@pytest.mark.parametrize("whose", ["suite", "checkpoint"])
@pytest.mark.parametrize("kind", REFUSALS)
def test_a_template_that_refuses_a_chat_is_named_with_model_and_remedy(
    kind: str, whose: str, checkpoint: Path, tmp_path: Path
) -> None:
    fields, template, words = REFUSALS[kind]
    if whose == "checkpoint":
        own_template(checkpoint, template)
        config = model(str(checkpoint), **fields)
    else:
        config = model(**fields, chat_template=template)
    with pytest.raises(CheckpointError, match="chat template of model 'm'") as raised:
        check_template(config, Workspace(tmp_path, tmp_path))
    assert words in str(raised.value)
    assert ("in the suite" if whose == "suite" else str(checkpoint)) in str(raised.value)
    assert "set chat_template" in str(raised.value) or "correct chat_template" in str(raised.value)


def test_a_checkpoint_s_template_may_be_no_jinja_or_missing(checkpoint: Path, tmp_path: Path) -> None:
    own_template(checkpoint, "{% if")
    with pytest.raises(CheckpointError, match=r"chat template of model 'm'.*TemplateSyntaxError"):
        check_template(model(str(checkpoint)), Workspace(tmp_path, tmp_path))
    (checkpoint / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match=r"has no chat template.*set chat_template for model 'm'"):
        check_template(model(str(checkpoint)), Workspace(tmp_path, tmp_path))
    check_template(model(str(checkpoint), chat_template=NO_SYSTEM), Workspace(tmp_path, tmp_path))


@pytest.mark.parametrize("name", ["messages", "tokenize", "add_generation_prompt", "chat_template"])
def test_an_argument_that_is_the_toolkit_s_is_refused(name: str, tmp_path: Path) -> None:
    config = model(chat_template="a", chat_template_args={name: "x"})
    with pytest.raises(CheckpointError, match=f"chat_template_args of model 'm' sets {name}"):
        check_template(config, Workspace(tmp_path, tmp_path))


def test_a_template_that_does_not_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(tokenizer, "RENDER_SECONDS", 0.1)
    monkeypatch.setattr(tokenizer, "render_jinja_template", lambda *chat, **arguments: release.wait(10))
    with pytest.raises(CheckpointError, match=r"'m' .*may never end"):
        check_template(model(chat_template="a"), Workspace(tmp_path, tmp_path))
    release.set()


def test_lone_surrogates_never_reach_a_tokenizer(llama: Path, tmp_path: Path) -> None:
    chat = ChatTokenizer(model(str(llama), chat_template="{{ '\\ud800' }}{{ messages[0]['content'] }}"), llama)
    text = chat.render(messages("refine-v1", None, (), "half \udc00", ["\ud83d"]))
    assert text.startswith("\ufffd")
    assert "half \ufffd" in text
    assert text.count("\ufffd") == 3
    assert chat.count("\ud800") == chat.count("\ufffd")


def test_plan_and_generate_refuse_a_template_before_anything_is_generated(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second model is at fault: the first must not generate for hours before that is said."""
    own_template(checkpoint, NO_SYSTEM)
    common = f'checkpoint = "{checkpoint}"\ndtype = "float32"\nbase_rate = 1.0\nmax_tokens = 4\n'
    (tmp_path / "s.toml").write_text(
        'name = "s"\nhorizon = 1\n[[benchmarks]]\nname = "addition"\nlimit = 4\n'
        f'[[models]]\nname = "one"\n{common}[[models]]\nname = "two"\nsystem_prompt = "s"\n{common}'
    )
    monkeypatch.chdir(tmp_path)
    for command in ("plan", "generate"):
        result = CliRunner().invoke(app, [command, "s.toml", "--cache", "c.duckdb"])
        assert isinstance(result.exception, CheckpointError), result.output
        assert "chat template of model 'two'" in str(result.exception)
    assert Cache(tmp_path / "c.duckdb").arrow("FROM generations").num_rows == 0


def test_models_are_checked_once_and_only_if_something_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[str] = []
    from toolkit.engines.scripted import ScriptedEngine

    monkeypatch.setattr(
        ScriptedEngine, "check_model", lambda config, model, workspace: checks.append(model.name), raising=False
    )
    suite, cache = resolve_config(suite_config(horizon=1), tmp_path), Cache(tmp_path / "c.duckdb")
    for _ in range(2):
        generate(suite, cache, Workspace(tmp_path, tmp_path), encode=encode)
    assert checks == ["sums", "words"]
    check_models(EngineConfig(name="openai"), [model("served:x", dtype=None)], Workspace(tmp_path, tmp_path))


class Exploit:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def pickled_weights(folder: Path, target: Path) -> None:
    """Replace the weights of a checkpoint by a pickle that runs code."""
    for file in folder.rglob("*.safetensors"):
        file.unlink()
        (file.parent / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Exploit(target)}))


def test_pickled_weights_run_no_code(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    pickled_weights(checkpoint, target)
    engine = TransformersEngine(EngineConfig(device="cpu"), model(str(checkpoint)), Workspace(tmp_path, tmp_path))
    with pytest.raises(CheckpointError, match="cannot be read by transformers"):
        engine.generate([Prompt("a", 1, 0)])
    assert not target.exists()
    pickle.loads(pickle.dumps(Exploit(target)))
    assert target.exists()  # the pickle does what it is said to do


def test_a_pickled_adapter_runs_no_code(llama: Path, tmp_path: Path) -> None:
    adapter, target = tmp_path / "adapter", tmp_path / "ran"
    adapter.mkdir()
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 2,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "",
    }
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps({"weight": Exploit(target)}))
    config = model(str(llama), adapter=str(adapter))
    engine = TransformersEngine(EngineConfig(device="cpu"), config, Workspace(tmp_path, tmp_path))
    with pytest.raises(CheckpointError, match="cannot be read by transformers"):
        engine.generate([Prompt("a", 1, 0)])
    assert not target.exists()


def test_code_of_a_checkpoint_is_not_run_and_nobody_is_asked(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    (checkpoint / "code.py").write_text(f"open({str(target)!r}, 'w')\nclass Config: ...\nclass Model: ...\n")
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"model_type": "nobody_s", "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"never runs such code.*served:NAME"):
        TransformersEngine(EngineConfig(device="cpu"), model(str(checkpoint)), Workspace(tmp_path, tmp_path))
    assert not target.exists()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"model_type": 7}'])
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_damaged_checkpoint_is_named(file: str, damage: bytes, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / file).write_bytes(damage)
    with pytest.raises(CheckpointError, match="checkpoint"):
        TransformersEngine(EngineConfig(device="cpu"), model(str(checkpoint)), Workspace(tmp_path, tmp_path))


@pytest.mark.parametrize("kind", ["foreign class", "pickle", "no JSON", "another shape"])
def test_an_encoder_runs_no_code(kind: str, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, target = shutil.copytree(encoder, tmp_path / "encoder"), tmp_path / "ran"
    (tmp_path / "stranger.py").write_text(f"open({str(target)!r}, 'w')\nclass Module: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = json.loads((folder / "modules.json").read_text())
    if kind == "foreign class":
        (folder / "modules.json").write_text(json.dumps([*modules, {**modules[0], "type": "stranger.Module"}]))
    elif kind == "pickle":
        pickled_weights(folder, target)
    else:
        (folder / "modules.json").write_text("{" if kind == "no JSON" else "[[]]")
    with pytest.raises(CheckpointError, match=r"encoder|checkpoint"):
        load_encoder(Weights(checkpoint=str(folder)), Workspace(tmp_path, tmp_path), "cpu")
    assert not target.exists()
