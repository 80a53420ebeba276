"""Finds the routers of recorded runs: in the folder of runs, beside the cache, or where they were written."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from toolkit.core.commands import command
from toolkit.core.errors import PolicyError, ToolkitError
from toolkit.core.files import content_sha256
from toolkit.core.text import printable
from toolkit.routing.router import Router
from toolkit.store.runs import RecordedRun


class Newest(NamedTuple):
    """The router of the newest run that can be opened, its run, and why each newer one cannot."""

    router: Router
    run: str
    skipped: dict[str, str]


def locate(run: RecordedRun, cache: Path, runs_dir: Path) -> Path:
    """Return the file of a recorded run's router: the first of that name that has the recorded content.

    The recorded path is a hint only, because `cache/` and `runs/` may have been moved.

    Args:
        run: The run.
        cache: File of the cache that has recorded it.
        runs_dir: Folder of runs that the user names.

    Raises:
        PolicyError: There is none; says where it was looked for.
    """
    name = re.split(r"[\\/]", run.policy)[-1]
    beside = [file.parent.parent / "runs" for file in (cache.absolute(), cache.resolve())]
    paths = [folder / run.run / name for folder in (runs_dir, *beside)] if _is_name(run.run) and _is_name(name) else []
    paths = list(dict.fromkeys(path.absolute() for path in (*paths, Path(run.policy))))
    files = [path for path in paths if path.is_file()]
    for path in files:
        if content_sha256(path) == run.policy_sha256:
            return path
    if files:
        raise PolicyError(
            f"The file of run {printable(run.run)} has changed since it was recorded: {printable(str(files[0]))}. It may be "
            f"of another training of this run. To evaluate it as it is: {printable(command('evaluate', files[0], cache=cache))}"
        )
    places = ", ".join(printable(str(path)) for path in paths)
    raise PolicyError(
        f"The file of run {printable(run.run)} is not there; it was looked for as {places}. If its folder has moved, name the "
        f"folder of runs with --runs-dir FOLDER; else train it again: {printable(command('train', run.suite, cache=cache))}"
    )


def newest_router(runs: Sequence[RecordedRun], open_router: Callable[[RecordedRun], Router]) -> Newest:
    """Open the newest router that can be opened.

    Args:
        runs: The runs, newest first; at least one.
        open_router: Finds, loads and checks the router of a run.

    Raises:
        PolicyError: None can be opened; says why.
    """
    skipped: dict[str, str] = {}
    for run in runs:
        try:
            return Newest(open_router(run), run.run, skipped)
        except ToolkitError as error:
            skipped[run.run] = str(error)
    if len(runs) == 1:
        raise PolicyError(*skipped.values())
    raise PolicyError(f"None of the {len(runs)} runs can be evaluated. The newest: {next(iter(skipped.values()))}")


def _is_name(text: str) -> bool:
    """Return whether a text from a cache is the name of a file or folder, and not a path to somewhere else."""
    return bool(text) and text not in (".", "..") and not re.search(r"[\\/\x00]", text)
