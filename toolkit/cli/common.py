"""What several commands share: options, where the cache is, and which suite is meant."""

import os
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.core.errors import CacheError, SuiteError, did_you_mean

if TYPE_CHECKING:
    from toolkit.store import Cache
    from toolkit.suites.config import SuiteConfig
    from toolkit.suites.suite import Suite

SuiteArgument = Annotated[str, typer.Argument(help="A suite file (NAME.toml) or the name of a shipped or recorded suite.")]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--cache", help="The cache file. Default: $TOOLKIT_CACHE/SUITE.duckdb, else cache/SUITE.duckdb.", show_default=False
    ),
]


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"
    PARQUET = "parquet"


FormatOption = Annotated[Format, typer.Option("--format", help="table for people; the others for programs.")]
OutputOption = Annotated[Path | None, typer.Option("--output", help="File to write in place of stdout.", show_default=False)]


class Sandbox(StrEnum):
    """How model-written code is kept apart; `[code]` of the suite has the same words."""

    OFF = "off"
    BUBBLEWRAP = "bubblewrap"
    PROCESS = "process"


SandboxOption = Annotated[
    Sandbox | None, typer.Option("--sandbox", help="Run model-written code, kept apart this way.", show_default=False)
]

AllowStopOption = Annotated[
    bool | None,
    typer.Option("--allow-stop/--no-stop", help="Whether the router may end with the current answer.", show_default=False),
]
HoldoutOption = Annotated[
    str | None, typer.Option(help="A benchmark to leave out of training and to evaluate on.", show_default=False)
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A field of [train], e.g. ppo.learning_rate=3e-4; may be repeated.", show_default=False),
]
RunsOption = Annotated[Path, typer.Option(help="Folder of the runs.")]


def cache_folder() -> Path:
    """Return the folder of caches: `$TOOLKIT_CACHE`, else `cache` below the current one."""
    return Path(os.environ.get("TOOLKIT_CACHE") or "cache")


def cache_path(suite: str, given: Path | None) -> Path:
    """Return where a suite's cache is, or is to be made."""
    return given or cache_folder() / f"{suite}.duckdb"


def only_cache(given: Path | None) -> "Cache":
    """Return the cache that is meant where no suite is named: the given one, or the only one in the folder.

    Raises:
        CacheError: There is none, or several.
    """
    from toolkit.store import Cache

    if given:
        return Cache(given)
    found = sorted(cache_folder().glob("*.duckdb"))
    if not found:
        raise CacheError(
            f"There is no cache in {cache_folder()}. Make one (toolkit generate SUITE), or name one with --cache FILE."
        )
    if len(found) > 1:
        raise CacheError(
            f"There are several caches in {cache_folder()}: {', '.join(p.name for p in found)}. Name one with --cache FILE."
        )
    return Cache(found[0])


def suite_name(reference: str) -> str:
    """Return the name of a suite given by file or by name, shipped or recorded."""
    from toolkit.suites.loading import find_suite, load_config

    return load_config(find_suite(reference)).name if _is_file(reference) else reference


def suite_config(reference: str, given: Path | None, migrate: bool = False) -> "tuple[SuiteConfig, Path]":
    """Return a suite as written, and the folder its relative paths start from: by file, shipped name, or as recorded.

    Args:
        reference: The suite.
        given: The cache, where the user names one.
        migrate: Whether a cache of an older schema is migrated, for a command that goes on to write to it.

    Raises:
        SuiteError: There is no such suite.
    """
    from toolkit.store import Cache
    from toolkit.suites.loading import find_suite, load_config, shipped_suites

    cache = Cache(cache_path(reference, given)) if not _is_file(reference) and reference not in shipped_suites() else None
    if cache and migrate:
        cache.migrate()
    known = cache.recorded(reference) if cache and cache.exists() else None
    if known:
        return known.config, Path.cwd()
    path = find_suite(reference)
    return load_config(path), path.parent


def _is_file(reference: str) -> bool:
    return reference.endswith(".toml") or "/" in reference


def found_suite(reference: str, given: Path | None) -> "tuple[Suite, SuiteConfig, Cache]":
    """Return a suite as recorded, as its file has it today (as recorded, where there is none), and its cache, migrated.

    Raises:
        SuiteError: The suite is not recorded there.
    """
    from toolkit.store import Cache
    from toolkit.suites.loading import find_suite, load_config, shipped_suites

    has_file = _is_file(reference) or reference in shipped_suites()
    config = load_config(find_suite(reference)) if has_file else None
    name = config.name if config else reference
    cache = Cache(cache_path(name, given))
    if not cache.exists():
        raise _nothing_of(reference, cache, given, has_file)
    cache.migrate()
    known = cache.recorded(name)
    if known is None:
        raise SuiteError(
            f"The cache {cache.path} has no suite {name!r}; recorded: {', '.join(cache.suite_names()) or 'none'}. "
            f"Generate it first: toolkit generate {reference} --cache {cache.path}"
        )
    return known, config or known.config, cache


def _nothing_of(reference: str, cache: "Cache", given: Path | None, known: bool) -> CacheError:
    """Say what makes the cache of a suite, or, where there is no such suite, which there are."""
    from benchmarks.reference import SUITE
    from toolkit.suites.loading import shipped_suites

    told = f"There is no cache {cache.path}. "
    if known:
        ready = "; the shipped one: toolkit import reference" if reference == SUITE else ""
        where = f" --cache {given}" if given else ""
        return CacheError(f"{told}Make it: toolkit generate {reference}{where}{ready}")
    there = sorted({*shipped_suites(), *(file.stem for file in cache_folder().glob("*.duckdb"))})
    return CacheError(f"{told}There is no suite {reference!r} either: {did_you_mean(reference, there)}, or a file NAME.toml.")


def recorded_suite(reference: str, given: Path | None) -> "tuple[Suite, Cache]":
    """Return a recorded suite and its cache; rates, metrics and splits of its file, where there is one, apply.

    Raises:
        SuiteError: The suite is not recorded there, or its file asks for texts that were not generated.
    """
    known, config, cache = found_suite(reference, given)
    if config != known.config:
        from toolkit.generation.rescoring import qualities, rescore
        from toolkit.suites.suite import reread

        read = reread(known, config)
        rescore(read, cache, known.key, qualities(read))
        record_reading(read, cache)
        return read, cache
    return known, cache


def record_reading(suite: "Suite", cache: "Cache") -> None:
    """Make a suite, read in another way, the current one of its name; what it reads is cached already."""
    cache.record(suite)
    cache.set_cost_unit(suite.key, suite.config.incomplete != "refuse")


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Read `--set ppo.learning_rate=3e-4 --set timesteps=1000`; values are TOML, and text needs no quotes.

    Raises:
        SuiteError: There is no `=`.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise SuiteError(f"--set takes NAME=VALUE, e.g. --set ppo.learning_rate=3e-4; given: {setting!r}.")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        section, dot, field = name.strip().partition(".")
        if dot:
            found.setdefault(section, {})[field] = value
        else:
            found[section] = value
    return found
