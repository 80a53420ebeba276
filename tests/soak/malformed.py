"""Feed malformed inputs to the commands: each ends well or in one paragraph, and changes no file that it should not.

python -m tests.soak.malformed [--inputs 2000] [--seed 0] [--kind suite] [--folder FOLDER]

Input number N of a kind is drawn from the seed and N alone, so that a failure is repeated with `--only N`. Good inputs are
damaged: values are replaced, keys dropped or renamed, bytes cut or flipped. The commands run in this process, in a folder with
caches, a trained router and an exported folder; embeddings are hashes.
"""

import argparse
import contextlib
import io
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple
from unittest import mock

from tests.content import content
from tests.scripted import encode
from tests.serving import raw_server
from tests.soak.damage import write_jsonl, write_toml
from tests.soak.malformed_inputs import COMMANDS, KINDS, SUITE, TABLE, Attempt
from toolkit.cli import main
from toolkit.core.files import content_sha256
from toolkit.store import Cache

HANGING_SECONDS = 120
"""A command that takes longer counts as hanging."""

MESSAGE_CHARACTERS = 6000
"""A longer refusal is a dump, not a message."""

FINE_EXIT_CODES = {0, 1, 2, 3, 130}
"""The codes that docs/reference/cli.md explains; everything else is a crash."""


class Result(NamedTuple):
    """What one malformed input did.

    Attributes:
        number: Which one of its kind.
        attempt: The input.
        code: Exit code of the command.
        faults: What should not have happened; empty if all is well.
        output: What the command printed.
    """

    number: int
    attempt: Attempt
    code: int
    faults: list[str]
    output: str


def build_workbench(folder: Path) -> None:
    """Fill a folder with good inputs and what the commands make of them.

    Raises:
        RuntimeError: A command refuses a good input.
    """
    folder.mkdir(parents=True)
    write_toml(folder / "whole.toml", SUITE)
    write_jsonl(folder / "rows.jsonl", [{"q": f"What is {i} + 1?", "a": str(i + 1)} for i in range(20)])
    write_jsonl(folder / "table.jsonl", TABLE)
    for line in COMMANDS["make"]:
        code, output = run(line.split(), folder)
        if code:
            raise RuntimeError(f"toolkit {line}: {output}")


def try_input(kind: str, number: int, seed: int, workbench: Path, folder: Path) -> Result:
    """Draw one malformed input, feed it to its command in a copy of the workbench, and judge what happens."""
    rng = Random(f"{seed} {kind} {number}")
    shutil.copytree(workbench, folder)
    attempt = KINDS[kind](rng, folder)
    with contextlib.ExitStack() as stack:
        if reply := attempt.reply:
            url = stack.enter_context(raw_server(lambda _: reply))
            config = folder / "served.toml"
            config.write_text(config.read_text().replace("URL", url))
        before = _hashes(folder)
        code, output = run(attempt.arguments, folder)
    return Result(number, attempt, code, _faults(attempt, code, output, before, folder, workbench), output)


def run(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Run a command in this process, within a folder; return its exit code and what it printed, a traceback included."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
    code = 0
    signal.signal(signal.SIGALRM, _raise_timeout)
    with (
        _working_in(folder),
        mock.patch.object(sys, "argv", ["toolkit", *arguments]),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        signal.alarm(HANGING_SECONDS)
        try:
            main()
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        except BaseException:  # whatever it is, a user would see it
            code = -1
            traceback.print_exc()
        finally:
            signal.alarm(0)
    return code, output.buffer.getvalue().decode()


def _faults(attempt: Attempt, code: int, output: str, before: dict[str, str], folder: Path, workbench: Path) -> list[str]:
    """Say what is wrong with how a command ended."""
    faults = []
    if code not in FINE_EXIT_CODES:
        faults.append(f"exit code {code}")
    if "Traceback (most recent call last)" in output:
        faults.append("traceback")
    if code == 2 and (len(output) > MESSAGE_CHARACTERS or "errors.pydantic.dev" in output):
        faults.append(f"a dump of {len(output)} characters")
    after = _hashes(folder)
    written = {name for name in after if after[name] != before.get(name)}
    gone = {name for name in before if name not in after}
    if code == 2:
        new_caches = {name for name in written if name.endswith(".duckdb") and name not in before}
        changed = {name for name in (written | gone) - new_caches if not _equal_caches(name, folder, workbench)}
    else:
        changed = {name for name in (written | gone) & set(before) if not name.startswith(attempt.may_change)}
    grown = {name for name in changed if name.endswith("profiles.jsonl")}  # measurements that succeeded are kept
    changed = {name for name in changed - grown if not name.startswith("cache/weights/")}
    if changed:
        faults.append(f"changed: {', '.join(sorted(changed))}")
    hidden = {name for name in set(after) - set(before) if any(part.startswith(".") for part in Path(name).parts)}
    if hidden:
        faults.append(f"left behind: {', '.join(sorted(hidden))}")
    return faults


def _equal_caches(name: str, folder: Path, workbench: Path) -> bool:
    """Return whether a cache holds the rows that it held, whatever its bytes."""
    if not name.endswith(".duckdb") or not (folder / name).is_file() or not (workbench / name).is_file():
        return False
    with contextlib.suppress(Exception):
        return content(Cache(folder / name)) == content(Cache(workbench / name))
    return False


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): content_sha256(path)
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def _raise_timeout(*_: object) -> None:
    raise TimeoutError(f"no end within {HANGING_SECONDS} s")


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    previous = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(previous)


@contextlib.contextmanager
def without_downloads() -> Iterator[None]:
    """Embed texts by their hashes, and let no command ask on a terminal."""
    with (
        mock.patch("toolkit.engines.encoder.load_encoder", return_value=encode),
        mock.patch.dict(os.environ, {"HF_HUB_OFFLINE": "1", "COLUMNS": "120"}),
        mock.patch.object(sys, "stdin", io.StringIO()),
    ):
        yield


def try_inputs(inputs: int, seed: int, folder: Path, kinds: tuple[str, ...] = tuple(KINDS), first: int = 0) -> list[Result]:
    """Feed inputs of all kinds, in turns, and return what each did."""
    results = []
    with without_downloads():
        workbench = folder / "workbench"
        build_workbench(workbench)
        for index in range(inputs):
            kind, number = kinds[index % len(kinds)], first + index // len(kinds)
            attempted = folder / f"{kind}-{number}"
            result = try_input(kind, number, seed, workbench, attempted)
            results.append(result)
            if not result.faults:
                shutil.rmtree(attempted)
    return results


def describe(result: Result, seed: int) -> str:
    """Describe a fault, and how to repeat it."""
    attempt = result.attempt
    return (
        f"{attempt.kind} {result.number} (seed {seed}): {'; '.join(result.faults)}\n  toolkit {attempt.arguments}\n"
        f"  {attempt.damage}\n{result.output[-1500:]}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--only", type=int, help="the number of the only input to try, with --kind")
    parser.add_argument("--folder", type=Path, help="where failing inputs stay")
    options = parser.parse_args()
    place = options.folder or Path(tempfile.mkdtemp(prefix="malformed-"))
    started = time.monotonic()
    chosen = (options.kind,) if options.kind else tuple(KINDS)
    single = options.only is not None
    results = try_inputs(1 if single else options.inputs, options.seed, place, chosen, options.only or 0)
    for failed in (result for result in results if result.faults):
        print(describe(failed, options.seed))
    endings = Counter((result.attempt.kind, result.code) for result in results)
    for (kind, code), count in sorted(endings.items()):
        print(f"{kind:10} exit code {code}: {count}")
    faulty = sum(bool(result.faults) for result in results)
    print(f"{len(results)} inputs, {faulty} faults, {time.monotonic() - started:.0f} s; failing inputs are in {place}")
    sys.exit(faulty > 0)
