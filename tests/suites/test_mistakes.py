"""Mistakes in suite files: whatever is wrong, the message is short, true, in file order, and in the words of the file."""

from __future__ import annotations

import tomllib
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.suites.test_config import GOOD
from toolkit.core.errors import BenchmarkError, SuiteError
from toolkit.core.text import printable
from toolkit.core.workspace import Workspace
from toolkit.suites.benchmark_config import BenchmarkConfig
from toolkit.suites.config import SuiteConfig
from toolkit.suites.lines import line_of
from toolkit.suites.loading import find_suite, load_config
from toolkit.suites.resolving import load_questions

PRICED = "[engine]\nusd_per_million_tokens = {}\n\n[[benchmarks]]"
SERVED = '[[models]]\nname = "m{}"\ncheckpoint = "./m"\ndtype = "float32"\nbase_rate = 1.0\nseed = {}\n'

MISTAKES = {
    "text for a number": ("horizon = 2", 'horizon = "2"', ["2: horizon: input should be a valid integer (given: '2')"]),
    "true for a number": (
        "limit = 5",
        "limit = true",
        ["20: benchmarks[1].limit: input should be a valid integer (given: True)"],
    ),
    "number for a text": ('name = "b"', "name = 3", ["12: models[2].name: input should be a valid string (given: 3)"]),
    "fraction for an integer": ("limit = 5", "limit = 5.5", ["20: benchmarks[1].limit: input should be a valid integer"]),
    "date": ("horizon = 2", "horizon = 2024-01-05", ["2: horizon: input should be a valid integer"]),
    "mixed list": ("limit = 5", 'metrics = ["token_f1", 1]', ["20: benchmarks[1].metrics[2]: input should be a valid string"]),
    "NaN": ("base_rate = 1.0", "base_rate = nan", ["9: models[1].base_rate: should be a finite number (given: nan)"]),
    "infinite": ("rate_in = 1.0", "rate_in = inf", ["15: models[2].rate_in: should be a finite number (given: inf)"]),
    "1e400": ("rate_in = 1.0", "temperature = 1e400", ["15: models[2].temperature: should be a finite number"]),
    "huge limit": ("limit = 5", f"limit = {10**30}", ["20: benchmarks[1].limit: input should be less than or equal to"]),
    "huge seed": ("limit = 5", f"seed = {2**63}", ["20: benchmarks[1].seed: input should be less than or equal to"]),
    "huge horizon": ("horizon = 2", "horizon = 900", ["2: horizon: input should be less than or equal to 8"]),
    "no benchmark": ('[[benchmarks]]\nname = "addition"\nlimit = 5\n', "", ["benchmarks: this field is required"]),
    "one table for a list": (
        '[[benchmarks]]\nname = "addition"\nlimit = 5\n',
        '[benchmarks]\nname = "addition"\n',
        ["18: benchmarks: should be a list of tables: write [[benchmarks]] above each"],
    ),
    "value for a table": ("horizon = 2", "horizon = 2\nsplits = 3", ["3: splits: should be a table"]),
    "empty stop": (
        "rate_out = 2.0",
        'rate_out = 2.0\nstop = ["x", ""]',
        ["17: models[2].stop[2]: string should have at least 1"],
    ),
    "address for data": (
        "limit = 5",
        'data = "https://x.org/a.csv"',
        ["20: benchmarks[1].data: a file or folder on this machine"],
    ),
    "empty path": ("limit = 5", 'data = ""', ["20: benchmarks[1].data: a path is not empty"]),
    "NUL in a path": ("limit = 5", 'file = "a\\u0000"', ["20: benchmarks[1].file: a path has no NUL"]),
    "name with a newline": (
        'name = "b"',
        'name = "b\\nc"',
        ["12: models[2].name: the name 'b\\nc' has a character that cannot be printed"],
    ),
    "name with escapes": ('name = "b"', 'name = "\\u001b[31m"', [r"(given: '\x1b[31m')"]),
    "no prompt column": (
        "limit = 5",
        'prompt = "What?"\ndata = "x.csv"\nmetric = "exact_match"',
        ["20: benchmarks[1].prompt: it names its columns in braces"],
    ),
    "broken prompt": ("limit = 5", 'prompt = "{q"\ndata = "x.csv"', ["20: benchmarks[1].prompt: ", "written twice"]),
    "prompt of any width": (
        "limit = 5",
        'prompt = "{q:>999999999}"\ndata = "x.csv"',
        ["20: benchmarks[1].prompt: ", "at most 1000 wide"],
    ),
    "argument of a library": (
        "[[benchmarks]]",
        "[train.ppo]\nlearning_rate = { a = 1 }\n\n[[benchmarks]]",
        ["19: train.ppo.learning_rate: should be a finite number, a text, true or false, or a list of whole numbers"],
    ),
    "price of an unknown model": (
        "[[benchmarks]]",
        PRICED.format("{ aa = [1, 2], b = [1, 2] }"),
        ["19: engine.usd_per_million_tokens: there is no model 'aa'; did you mean 'a'"],
    ),
    "price of one of two models": (
        "[[benchmarks]]",
        PRICED.format("{ a = [1, 2] }"),
        ["19: engine.usd_per_million_tokens: model 'b' has no price"],
    ),
    "negative price": (
        "[[benchmarks]]",
        PRICED.format("{ a = [1, -2], b = [0, 0] }"),
        ["19: engine.usd_per_million_tokens.a[2]: input should be greater than or equal to 0 (given: -2"],
    ),
    "too many nodes": (
        "[[benchmarks]]",
        "".join(SERVED.format(n, n) for n in range(40)) + "[[benchmarks]]",
        ["horizon: 42 models over 8 hops"],
    ),
    "upper-case hash": (
        '"./b"',
        f'"package:x==1/f.gguf"\nsha256 = "{"A" * 64}"',
        ["64 lower-case hex digits"],
    ),
    "key twice": ("horizon = 2", "horizon = 2\nhorizon = 3", ["not valid TOML", "written twice", "line 3"]),
    "NUL": ("horizon = 2", "horizon = 2\0", ["not valid TOML", "line 2"]),
    "half of a surrogate pair": ("horizon = 2", 'description = "\\ud83d"', ["not valid TOML", "line 2"]),
    "deep nesting": ("horizon = 2", f"horizon = {'[' * 5000}", ["nested too deeply"]),
    "number of thousands of digits": ("horizon = 2", f"horizon = {'9' * 5000}", ["not valid TOML"]),
}


def message_of(path: Path, text: str | bytes) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SuiteError) as caught:
        load_config(path)
    return str(caught.value)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_the_true_cause(mistake: str, tmp_path: Path) -> None:
    old, new, fragments = MISTAKES[mistake]
    text = GOOD.replace(old, new, 1) if mistake != "too many nodes" else GOOD.replace("= 2", "= 8", 1).replace(old, new, 1)
    message = message_of(tmp_path / "mine.toml", text)
    for fragment in fragments:
        assert fragment in message
    assert len(message.splitlines()) == 1
    assert len(message) < 400 + len(str(tmp_path))


def test_an_empty_list_of_models_is_a_mistake_of_its_own(tmp_path: Path) -> None:
    text = 'name = "mine"\nhorizon = 2\nmodels = []\n[[benchmarks]]\nname = "addition"\n'
    assert ":3: models: the suite has no model; each is a table [[models]]" in message_of(tmp_path / "mine.toml", text)


def test_several_mistakes_are_told_once_each_and_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = GOOD.replace("horizon = 2", "horizn = 2\nhorizon = 0").replace("base_rate = 1.0", "base_rate = -1")
    text = text.replace('dtype = "float32"\nrate_in', 'dtype = "int4"\nrate_in').replace("limit = 5", "limit = 0")
    lines = message_of(tmp_path / "mine.toml", text).splitlines()
    numbers = [int(line.removeprefix(f"{tmp_path / 'mine.toml'}:").partition(":")[0]) for line in lines]
    assert numbers == [2, 3, 10, 15, 21]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encodings_and_newlines_of_editors_are_read(encoding: str, newline: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(GOOD.replace('"b"', "\"模型 (b)/1 'x'\"").replace("\n", newline).encode(encoding))
    assert load_config(path).models[1].name == "模型 (b)/1 'x'"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \r\n\t", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\x89PNG\r\n\x1a\n\x00", "is not UTF-8 text (byte 0)"),
        (b"PK\x03\x04", "not valid TOML"),
        (b"\xff\xfe\x00", "is not UTF-16 text"),
        (b"name = 'mine'\rhorizon = 2", "not valid TOML"),
    ],
)
def test_what_is_no_suite_file_is_said(content: bytes, said: str, tmp_path: Path) -> None:
    message = message_of(tmp_path / "mine.toml", content)
    assert said in message
    assert len(message.splitlines()) == 1


def test_a_folder_and_other_names_are_not_offered_a_remedy_that_fails(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    for reference in (tmp_path / "folder.toml", tmp_path / "no" / "such", tmp_path):
        with pytest.raises(SuiteError, match=r"is not a suite file: a suite is a file whose name ends in \.toml"):
            find_suite(f"{reference}/" if reference == tmp_path else str(reference))
    with pytest.raises(SuiteError, match=r"Write one with: toolkit init '.*my suite\.toml'"):
        find_suite(str(tmp_path / "my suite.toml"))


TOML = """\
a = 1
"b c" . d = "[[x]]" # = 3
[ 'e' ."f.g" ]
h = \"\"\"
i = 1
[j]
\"\"\"
k = [
  { l = 1 },  # ]
  "]",
]
m = 2
[[n]]
o = { p = 1 }
[[n.q]]
r = 1
[[n.q]]
r = 2
[n.s]
t = 1
[[n]]
[[n.q]]
r = 3
"""


@pytest.mark.parametrize(
    ("loc", "line"),
    [
        (("a",), 1),
        (("b c", "d"), 2),
        (("e", "f.g"), 3),
        (("e", "f.g", "h"), 4),
        (("e", "f.g", "i"), 3),
        (("e", "f.g", "k", 0, "l"), 8),
        (("e", "f.g", "m"), 12),
        (("n",), 13),
        (("n", 0, "o", "p"), 14),
        (("n", 0, "q", 1, "r"), 18),
        (("n", 0, "s", "t"), 20),
        (("n", 1), 21),
        (("n", 1, "q", 0, "r"), 23),
        (("x",), None),
        ((), None),
    ],
)
def test_the_line_of_a_key_is_found_however_it_is_written(loc: tuple[int | str, ...], line: int | None) -> None:
    tomllib.loads(TOML)
    assert line_of(TOML, loc) == line


any_text = st.text(st.characters(codec=None), max_size=12)
toml_values = st.recursive(
    st.sampled_from(["true", "nan", "-inf", "1e400", "-1", "0", "2024-01-05", '""', "[]", "{}", "9" * 30])
    | any_text.map(lambda text: repr(text.encode("utf-8", "replace").decode()))
    | st.integers().map(str),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(data=st.data())
def test_any_text_is_a_suite_or_a_short_message(data: st.DataObject, tmp_path: Path) -> None:
    lines = GOOD.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        number = data.draw(st.integers(0, len(lines) - 1))
        key = lines[number].partition(" = ")[0]
        lines[number] = data.draw(
            st.just("")
            | any_text
            | st.just(lines[number] + "\n" + lines[number])
            | toml_values.map(partial("{} = {}".format, key))
        )
    path = tmp_path / "mine.toml"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    message = ""
    try:
        load_config(path)
    except SuiteError as error:
        message = str(error)
    assert not any(word in message for word in ("pydantic", "validation error", "Traceback", "tuple"))
    assert all(line.startswith((str(path), f"The suite file {path}")) for line in message.splitlines())
    assert printable(message) == message


@pytest.mark.parametrize(
    "path", ["~nobody-here/x.csv", "n" * 300 + ".csv", "a/" * 3000 + "x.csv", "x.csv/../y.csv", "\ud83d.csv"]
)
def test_a_path_that_cannot_exist_is_a_message(path: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").touch()
    own = BenchmarkConfig(name="own", data=path, prompt="{q}", metric="exact_match")
    shipped, code = BenchmarkConfig(name="svamp", data=path), BenchmarkConfig(name="own", file=path)
    suite = SuiteConfig.model_validate(tomllib.loads(GOOD))
    for entry in (own, shipped, code):
        with pytest.raises(BenchmarkError, match="There is no"):
            load_questions(suite.model_copy(update={"benchmarks": (entry,)}), Workspace(tmp_path, tmp_path), trust=True)
    with pytest.raises(SuiteError, match="There is no suite file"):
        find_suite(f"{tmp_path}/{path}.toml")
