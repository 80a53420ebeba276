"""Finds the files of recorded runs: in the folder of runs, beside the cache, or where they were written; and deletes them."""

import contextlib
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from toolkit.core.commands import command
from toolkit.core.errors import PolicyError, ToolkitError
from toolkit.core.files import content_sha256
from toolkit.core.text import printable
from toolkit.routing.router import Router
from toolkit.routing.router_file import LOG_FOLDER, ROUTER_FILE, ZIP_FILE
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
        f"folder of runs with --runs-dir FOLDER; else train it again, with the settings that toolkit runs show "
        f"{printable(run.run)} lists: {printable(command('train', run.suite, *_options(run), cache=cache))}"
    )


def _options(run: RecordedRun) -> list[str]:
    """Return the algorithm, alpha and seed of a run that the toolkit has trained, as options of `train`."""
    return ["--algorithm", run.algorithm, "--alpha", f"{run.alpha:g}", "--seed", str(run.seed)]


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


class RunFiles(NamedTuple):
    """The folder of a run, what the toolkit wrote there, and its size in bytes; None and nothing if there is no such folder."""

    folder: Path | None
    paths: tuple[Path, ...]
    bytes: int


def run_files(run: RecordedRun, cache: Path, runs_dir: Path) -> RunFiles:
    """Find what the toolkit wrote for a trained run: its router's file, a zip for stable-baselines3, and its log.

    Only a folder that has the run's name, and the recorded content, is a run's.

    Args:
        run: The run.
        cache: File of the cache that has recorded it.
        runs_dir: Folder of runs that the user names.
    """
    try:
        folder = locate(run, cache, runs_dir).parent if run.trained else None
    except PolicyError:  # moved, or of another training of the run: not ours to delete
        folder = None
    if folder is None or folder.name != run.run:
        return RunFiles(None, (), 0)
    paths = tuple(path for name in (ROUTER_FILE, ZIP_FILE, LOG_FOLDER) if (path := folder / name).exists())
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    return RunFiles(folder, paths, sum(file.stat().st_size for file in files))


def delete_files(files: RunFiles) -> None:
    """Delete what the toolkit wrote for a run, and its folder if nothing else is in it.

    Raises:
        OSError: A file cannot be deleted.
    """
    for path in files.paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if files.folder:
        with contextlib.suppress(OSError):  # it has files of the user's
            files.folder.rmdir()


def _is_name(text: str) -> bool:
    """Return whether a text from a cache is the name of a file or folder, and not a path to somewhere else."""
    return bool(text) and text not in (".", "..") and not re.search(r"[\\/\x00]", text)
