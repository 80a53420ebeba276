"""What a page shows is compared with what is printed, and renewed without losing what the page leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import page as pages
from tests.docs import running
from tests.docs.outputs import renew
from tests.docs.page import blocks, with_outputs
from tests.docs.printed import elided, matches
from tests.docs.running import PageError, Snapshots, results, toolkit_words

PAGE = """\
# A page

<!--
```sh
echo hidden > hidden.txt
```
-->

```csv title="rows.csv"
a,b
```

```sh
cat hidden.txt \\
    rows.csv  # two files
echo "$((40 + 2)) rows in 0.7 s"
```

```text
hidden
...
41 rows in ... s
```

1. In a list:

   ```python
   from pathlib import Path

   rows = Path("rows.csv").read_text()
   print(rows, end="")
   ```

   ```text
   a,b
   ```

```python
print(rows.upper(), end="")
```

An illustration:

```text
not an output
```

```bash
sleep 1000
```

```text
long
```
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr("tests.docs.outputs.ROOT", tmp_path)
    monkeypatch.setattr(running, "ROOT", tmp_path)
    (tmp_path / "cache").mkdir()
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(tmp_path / "snapshots")


def test_code_runs_from_top_to_bottom_in_one_folder(page: Path, snapshots: Snapshots, tmp_path: Path) -> None:
    printed = [result.printed for result in results(page, tmp_path / "reader", snapshots)]
    assert printed == [[], [], ["hidden", "a,b", "42 rows in 0.7 s"], ["a,b"], ["A,B"]]


def test_outputs_belong_to_the_code_right_before_them() -> None:
    shown = [block.output.body if block.output else None for block in blocks(PAGE)]
    assert shown == [None, None, "hidden\n...\n41 rows in ... s\n", "a,b\n", None, "long\n"]
    assert [block.code.line for block in blocks(PAGE)] == [4, 9, 13, 27, 38, 48]


def test_renewing_changes_outputs_alone_and_keeps_what_is_left_out(page: Path, snapshots: Snapshots, tmp_path: Path) -> None:
    assert renew(page, tmp_path / "reader", snapshots, long=False) == 1
    assert page.read_text() == PAGE.replace("41 rows in ... s", "42 rows in ... s")
    assert renew(page, tmp_path / "reader", snapshots, long=False) == 0


def test_indented_outputs_stay_indented() -> None:
    line = next(block.output.line for block in blocks(PAGE) if block.output and block.output.indent)
    assert with_outputs(PAGE, {line: ["x", "", "y"]}) == PAGE.replace("   a,b\n", "   x\n\n   y\n")


def test_code_that_fails_names_page_and_line(page: Path, snapshots: Snapshots, tmp_path: Path) -> None:
    page.write_text("\n```sh\nfalse\n```\n")
    with pytest.raises(PageError, match=r"page\.md:2: false"):
        list(results(page, tmp_path / "reader", snapshots))


@pytest.mark.parametrize(
    ("shown", "printed", "exactly", "after_training"),
    [
        ("R 0.767 [0.725, 0.806]", "R 0.767 [0.725, 0.806]", True, True),
        ("R 0.767 [0.725, 0.806]", "R 0.780 [0.725, 0.790]", False, True),
        ("R 0.767", "R 0.798", False, False),
        ("a   0.767\n--  -----", "a      -0.01\n-----  -----", False, False),
        ("a  0.010\n-----  -----", "a     -0.010\n------  ------", False, True),
        ("12 questions", "13 questions", False, False),
        ("1,040 questions of 2.5 s", "1,040 questions of 2.51 s", False, True),
        ("best: tree", "best: MLP", False, False),
        ("{'a': 4.5e-05}", "{'a': 2.1e-04}", False, True),
        ("first\n...", "first", True, True),
        ("first\n...\nlast", "first\nsecond\nthird\nlast", True, True),
        ("first\n...\nlast", "first\nsecond", False, False),
        ("...\nb\n...", "a\nb\nb\nc", True, True),
        ("run mine-...-seed0 in ... s", "run mine-ppo-seed0 in 4.1 s", True, True),
        ("run mine-...-seed0 in ... s", "run mine-ppo-seed1 in 4.1 s", False, False),
        ("a\nb", "a", False, False),
    ],
)
def test_shown_lines_stand_for_printed_ones(shown: str, printed: str, exactly: bool, after_training: bool) -> None:
    assert matches(shown.split("\n"), printed.split("\n"), after_training=False) == exactly
    assert matches(shown.split("\n"), printed.split("\n"), after_training=True) == after_training


@pytest.mark.parametrize(
    ("shown", "printed", "renewed"),
    [
        ("a 1\n...\nc 3", "a 2\nb\nb\nc 4", "a 2\n...\nc 4"),
        ("a 1\n...\nc 3\n...\nend", "a 2\nx\nc 4\ny\nz\nend", "a 2\n...\nc 4\n...\nend"),
        ("a 1 in ... s", "a 2 in 3.5 s", "a 2 in ... s"),
        ("old\n...\nlast", "p\nq\nr\ns", "p\n...\ns"),
        ("old", "p\nq", "p\nq"),
        ("old 1\na 1\n...\nb 1\n...", "new 1\na 2\nx\nb 2\ny", "new 1\na 2\n...\nb 2\n..."),
        ("old\n...", "p\nq\nr", "p\n..."),
        ("a in ... s\nold", "a in 3 s\nnew\nb", "a in ... s\nnew\nb"),
    ],
)
def test_a_renewed_output_leaves_out_what_the_former_one_did(shown: str, printed: str, renewed: str) -> None:
    assert "\n".join(elided(shown.split("\n"), printed.split("\n"))) == renewed


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("toolkit show places/7  # the user's", ["show", "places/7"]),
        ("toolkit sql \"SELECT 1 WHERE 'a' <> 'b' AND 2 * 3 > 1\"", ["sql", "SELECT 1 WHERE 'a' <> 'b' AND 2 * 3 > 1"]),
        ("toolkit import 'logs/*.jsonl' --suite a", ["import", "logs/*.jsonl", "--suite", "a"]),
        ("toolkit import logs/*.jsonl", None),
        ("toolkit show places/7 | head -n 1", None),
        ('toolkit show "$ITEM"', None),
        ("python mine.py", None),
    ],
)
def test_only_plain_commands_run_without_a_shell(line: str, words: list[str] | None) -> None:
    assert toolkit_words(line) == words
