from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from toolkit.core.errors import SuiteError
from toolkit.suites import config
from toolkit.suites.config import SuiteConfig
from toolkit.suites.loading import find_suite, load_config, shipped_suites

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
    for section in sections(SuiteConfig):
        for field in section.model_fields:
            assert field in template or field == "imported", f"{section.__name__}.{field}"  # which `import` alone writes


def test_every_field_is_documented() -> None:
    for section in sections(SuiteConfig):
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"


def sections(model: type[BaseModel]) -> set[type[BaseModel]]:
    """The model and all models that its fields hold."""
    definitions = model.model_json_schema().get("$defs", {})
    return {model} | {getattr(config, name) for name in definitions}
