from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from toolkit.core.errors import CacheError, EngineError, SuiteError
from toolkit.core.registry import ENGINE_SETTINGS
from toolkit.engines.openai import ServerSettings
from toolkit.engines.ray import RaySettings
from toolkit.suites import config
from toolkit.suites.config import EngineConfig, SuiteConfig, TrainConfig
from toolkit.suites.loading import find_suite, load_config, recorded_config, shipped_suites
from toolkit.suites.section import Section

GOOD = """\
name = "mine"
horizon = 2

[[models]]
name = "a"
checkpoint = "org/a"
revision = "0123456789012345678901234567890123456789"
dtype = "float32"
base_rate = 1.0

[[models]]
name = "b"
checkpoint = "./b"
dtype = "float32"
rate_in = 1.0
rate_out = 2.0

[[benchmarks]]
name = "addition"
limit = 5
"""

MISTAKES = {
    "unknown field": ("horizon = 2", "horizn = 2", 2, ["horizn", "did you mean 'horizon'"]),
    "missing field": ("horizon = 2\n", "", None, ["horizon", "required"]),
    "wrong type": ("horizon = 2", 'horizon = "two"', 2, ["horizon", "valid integer", "'two'"]),
    "horizon 0": ("horizon = 2", "horizon = 0", 2, ["horizon", "greater than or equal to 1"]),
    "negative rate": ("base_rate = 1.0", "base_rate = -1.0", 9, ["models[1].base_rate", "greater than or equal to 0"]),
    "two kinds of rate": ("rate_in = 1.0", "base_rate = 1.0", 11, ["models[2]", "either base_rate, or rate_in"]),
    "no rate": ("base_rate = 1.0\n", "", 4, ["models[1]", "give base_rate"]),
    "unknown benchmark": ('name = "addition"', 'name = "adition"', 18, ["benchmarks[1]", "did you mean 'addition'"]),
    "duplicate model": ('name = "b"', 'name = "a"', None, ["model 'a' is listed twice"]),
    "unpinned hub checkpoint": ('revision = "0123456789012345678901234567890123456789"\n', "", 4, ["full commit hash"]),
    "a branch as revision": ("0123456789012345678901234567890123456789", "main", 4, ["full commit hash"]),
    "package without hash": ('"./b"', '"package:x==1/f.gguf"', 11, ["needs sha256"]),
    "package without version": ('"./b"', '"package:x/f.gguf"', 11, ["package:NAME==VERSION/FILE"]),
    "unknown dtype": ('dtype = "float32"\nbase', 'dtype = "int4"\nbase', 8, ["dtype", "'float32', 'bfloat16' or 'float16'"]),
    "unknown field of a model": ("rate_out = 2.0", "rate_out = 2.0\ntemprature = 1", 17, ["temprature", "'temperature'"]),
    "limit 0": ("limit = 5", "limit = 0", 20, ["benchmarks[1].limit"]),
    "splits": ("[[benchmarks]]", "[splits]\ntrain = 0.5\n\n[[benchmarks]]", 18, ["splits", "add up to 1"]),
    "broken chat template": ('dtype = "float32"\nbase', 'dtype = "float32"\nchat_template = "{% if"\nbase', 9, ["not a Jinja"]),
    "no benchmark": ('[[benchmarks]]\nname = "addition"\nlimit = 5\n', "", None, ["benchmarks", "required"]),
    "samples of a greedy model": ("horizon = 2", "horizon = 2\nsamples = 3", None, ["needs a temperature", "'a' is greedy"]),
    "unknown metric": ("limit = 5", 'quality = "exact_mach"', 20, ["benchmarks[1].quality", "did you mean 'exact_match'"]),
    "unknown further metric": ("limit = 5", 'metrics = ["f1"]', 20, ["benchmarks[1].metrics", "no metric 'f1'", "token_f1"]),
    "unknown engine": (
        "[[benchmarks]]",
        '[engine]\nname = "vlm"\n\n[[benchmarks]]',
        19,
        ["engine.name", "did you mean 'vllm'"],
    ),
    "unknown field of the engine": (
        "[[benchmarks]]",
        "[engine]\ndevise = 1\n[[benchmarks]]",
        19,
        ["engine.devise", "'device'"],
    ),
    "unknown table of the engine": (
        "[[benchmarks]]",
        "[engine.servers]\nurl = 1\n[[benchmarks]]",
        18,
        ["engine.servers: unknown field", "did you mean 'server'"],
    ),
    "unknown setting of an engine": (
        "[[benchmarks]]",
        "[engine.server]\nconcurency = 3\n[[benchmarks]]",
        19,
        ["engine.server.concurency: unknown field", "did you mean 'concurrency'"],
    ),
    "wrong setting of an engine": (
        "[[benchmarks]]",
        "[engine.server]\nconcurrency = 0\n[[benchmarks]]",
        19,
        ["engine.server.concurrency: input should be greater than or equal to 1 (given: 0)"],
    ),
    "a table in place of a value": (
        "[[benchmarks]]",
        "[engine.device]\ncpu = 3\n[[benchmarks]]",
        18,
        ["engine.device: input should be a valid string"],
    ),
    "unknown field of training": ("[[benchmarks]]", "[train]\nalfa = 1\n[[benchmarks]]", 19, ["train.alfa", "'alpha'"]),
    "unknown algorithm's table": ("[[benchmarks]]", "[train.pppo]\nx = 1\n[[benchmarks]]", 18, ["train.pppo", "'ppo'"]),
    "served weights": (
        'checkpoint = "./b"\ndtype = "float32"',
        'checkpoint = "served:b"',
        None,
        ["'b' is served:", "the engine transformers runs weights", 'name = "openai"'],
    ),
    "broken TOML": ("horizon = 2", "horizon = ", 2, ["not valid TOML", "line 2"]),
    "name of a folder": ('name = "mine"', 'name = "../mine"', 1, ["name"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_message_with_place_field_and_remedy(mistake: str, tmp_path: Path) -> None:
    old, new, line, fragments = MISTAKES[mistake]
    assert old in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(SuiteError) as caught:
        load_config(path)
    message = str(caught.value)
    assert str(path) in message
    for fragment in fragments:
        assert fragment in message
    if line and mistake != "broken TOML":
        assert f"{path}:{line}: " in message


def test_the_good_suite_is_good(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert load_config(path).models[1].rates == (1.0, 2.0)


@pytest.mark.parametrize(
    ("content", "fragment"), [(None, "There is no suite file"), (GOOD.replace("horizon = 2", "horizon = 0"), "horizon")]
)
def test_the_command_line_exits_2_without_a_traceback_and_writes_nothing(
    content: str | None, fragment: str, tmp_path: Path
) -> None:
    if content:
        (tmp_path / "mine.toml").write_text(content)
    before = set(tmp_path.rglob("*"))
    program = "from toolkit.cli import main; main()"
    for command in ("generate", "plan", "train"):
        done = subprocess.run(
            [sys.executable, "-c", program, command, "./mine.toml"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert fragment in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", shipped_suites())
def test_shipped_suites_are_valid_and_named_after_their_file(name: str) -> None:
    assert load_config(find_suite(name)).name == name


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SuiteError, match="did you mean 'quickstart'"):
        find_suite("quikstart")


def test_the_template_of_init_is_a_valid_suite_that_mentions_every_field(tmp_path: Path) -> None:
    template = Path(config.__file__).with_name("template.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(template.replace("@SUITE@", "mine"))
    load_config(path)
    for section in sections():
        for field in section.model_fields:
            assert field in template or field == "imported", f"{section.__name__}.{field}"  # which `import` alone writes


def test_every_field_is_documented() -> None:
    for section in sections():
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"


def sections() -> set[type[BaseModel]]:
    """Every table that a suite file may have, those of the engines included."""
    tables = {SuiteConfig, *(ENGINE_SETTINGS[name] for name in ENGINE_SETTINGS)}
    names = {name for table in tables for name in table.model_json_schema().get("$defs", {})}
    by_name = {table.__name__: table for table in subclasses(Section)}
    return tables | {by_name[name] for name in names}


def subclasses(kind: type[Section]) -> set[type[Section]]:
    direct = set(kind.__subclasses__())
    return direct.union(*map(subclasses, direct))


def test_a_suite_of_an_older_version_is_read_back_with_the_settings_of_all_engines(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    document = load_config(path).model_dump(mode="json")
    document["engine"] |= {
        "vllm": {},
        "server": ServerSettings(concurrency=3).model_dump(mode="json"),
        "ray": RaySettings().model_dump(mode="json"),
    }
    engine = recorded_config(json.dumps(document)).engine
    assert engine.settings(ServerSettings) == ServerSettings(concurrency=3)
    assert engine.settings(RaySettings) == RaySettings()
    assert set(engine.tables) == {"server"}  # tables of defaults alone are as good as none
    del document["engine"]["vllm"], document["engine"]["ray"]
    assert SuiteConfig.model_validate(document).engine == engine


def test_a_recorded_suite_may_name_extensions_that_are_not_installed(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    document = load_config(path).model_dump(mode="json")
    document["engine"] |= {"name": "shout", "shout": {"mark": "!"}}
    document["benchmarks"] = [{"name": "of_a_package", "quality": "of_a_package"}]
    document["train"] |= {"algorithm": "mine", "mine": {"depth": 3}}
    recorded = recorded_config(json.dumps(document))
    assert recorded.engine.tables == {"shout": {"mark": "!"}}
    with pytest.raises(EngineError, match="no engine 'shout'"):
        _ = recorded.engine.token_budget
    with pytest.raises(CacheError, match=r"does not understand \(engine.loudness\)"):
        recorded_config(json.dumps(document | {"engine": {"loudness": 3}}))


def test_settings_that_were_not_validated_are_refused_when_they_are_used() -> None:
    engine = EngineConfig.model_construct(None, name="openai", server={"concurrency": 0, "uri": ""})
    with pytest.raises(SuiteError, match=r"engine\.server\.concurrency: .*\nengine\.server\.uri: unknown field; .*'url'"):
        engine.settings(ServerSettings)


def test_the_token_budget_is_the_engines_own_unless_the_suite_sets_it() -> None:
    assert {name: EngineConfig(name=name).token_budget for name in ("transformers", "vllm", "openai")} == {
        "transformers": 24576,
        "vllm": 262144,
        "openai": 65536,
    }
    assert EngineConfig(name="openai", batch_tokens=100).token_budget == 100


def test_training_settings_are_recorded_as_ever() -> None:
    """A run's name is a hash of them."""
    assert list(TrainConfig().model_dump()) == [
        *("algorithm", "policy", "alpha", "alphas", "allow_stop", "holdout", "timesteps", "n_envs", "net_arch", "projection"),
        *("first_layer", "terms", "blind", "patience", "fallback", "ppo", "exact", "sb3"),
    ]
    changed = TrainConfig().changed({"ppo": {"gamma": 0.9}}).changed({"ppo": {"n_epochs": 3}, "alpha": 0.1})
    assert (changed.ppo, changed.alpha) == ({"gamma": 0.9, "n_epochs": 3}, 0.1)
    with pytest.raises(SuiteError, match=r"^train\.alfa: unknown field; did you mean 'alpha'"):
        TrainConfig().changed({"alfa": 1})
