"""What several commands share: the app, options, where caches are, and how a suite is opened."""

import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from toolkit.cli.completion import complete_suite
from toolkit.cli.paths import Function, cache_file, existing_cache, output_file, with_force
from toolkit.cli.terminal import note
from toolkit.cli.trust import consent
from toolkit.core.commands import command
from toolkit.core.errors import CacheError, SuiteChangedError, SuiteError, did_you_mean
from toolkit.core.workspace import Workspace, cache_folder

if TYPE_CHECKING:
    from toolkit.store import Cache
    from toolkit.suites.config import SuiteConfig, TrainConfig
    from toolkit.suites.suite import Suite


class App(typer.Typer):
    """A group of commands; those with `--output` have `--force`."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        """Register a command."""
        register = super().command(name, **settings)

        def decorate(function: Function) -> Function:
            register(with_force(function))
            return function

        return decorate


app = App(
    name="toolkit",
    help="Cache every response of a pool of language models once; train and evaluate routers over them in seconds.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
"""The program; each command registers itself."""

STOPPED = 130
"""Exit code of a command that was stopped, and that continues when it is repeated."""

SuiteArgument = Annotated[
    str,
    typer.Argument(help="A suite file (NAME.toml), or the name of a shipped or recorded suite.", autocompletion=complete_suite),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="The cache: a file, or NAME for NAME.duckdb in the folder of caches. Default: the suite's, in $TOOLKIT_CACHE or "
        "cache.",
        callback=cache_file,
        show_default=False,
    ),
]


class Format(StrEnum):
    """The format of rows."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"
    PARQUET = "parquet"


FormatOption = Annotated[Format, typer.Option("--format", help="table for people; the others for programs.")]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", help="File to write the rows to, instead of stdout.", callback=output_file, show_default=False),
]


FullOption = Annotated[bool, typer.Option("--full", help="Show everything, not only what fits a screen.")]


class Sandbox(StrEnum):
    """How model-written code is isolated; `[code]` of a suite has the same values."""

    OFF = "off"
    BUBBLEWRAP = "bubblewrap"
    PROCESS = "process"


SandboxOption = Annotated[
    Sandbox | None, typer.Option("--sandbox", help="Run model-written code, isolated in this way.", show_default=False)
]

AllowStopOption = Annotated[
    bool | None,
    typer.Option("--allow-stop/--no-stop", help="Whether the router may stop with the current response.", show_default=False),
]
HoldoutOption = Annotated[
    str | None,
    typer.Option("--holdout", help="A benchmark to leave out of training and to evaluate on.", show_default=False),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A field of [train], e.g. ppo.learning_rate=3e-4. Can be repeated.", show_default=False),
]
RunsDirOption = Annotated[Path, typer.Option("--runs-dir", help="Folder of the trained routers.")]


class SuiteFile(NamedTuple):
    """A suite as written, its cache (which need not exist), and its folders.

    Attributes:
        is_recorded: Whether the suite comes from its cache, rather than from a file of the user's.
    """

    config: "SuiteConfig"
    cache: "Cache"
    workspace: Workspace
    is_recorded: bool = False


def cache_path(suite: str, path: Path | None) -> Path:
    """Return the path of a suite's cache: the one that the user names, or the default."""
    return path or cache_folder() / f"{suite}.duckdb"


def only_cache(path: Path | None, suite: str | None = None) -> "Cache":
    """Return the cache that the user names, that of a suite, or else the only one in the folder of caches.

    Raises:
        CacheError: There is no cache, or several.
    """
    from toolkit.store import Cache

    if path:
        return Cache(existing_cache(path))
    if suite and cache_path(suite, None).exists():
        return Cache(cache_path(suite, None))
    paths = sorted(cache_folder().glob("*.duckdb"))
    if not paths:
        raise CacheError(
            f"There is no cache in {cache_folder()}. Name one with --cache FILE, or make one: toolkit generate SUITE"
        )
    if len(paths) > 1:
        names = ", ".join(file.name for file in paths)
        raise CacheError(f"There are several caches in {cache_folder()}: {names}. Name one with --cache FILE.")
    return Cache(paths[0])


def suite_name(reference: str) -> str:
    """Return the name of a suite that the user gives as a file or by name."""
    from toolkit.suites.loading import find_suite, load_config

    return load_config(find_suite(reference)).name if _is_file(reference) else reference


def read_suite(reference: str, path: Path | None, *, migrate: bool = False) -> SuiteFile:
    """Read a suite: from its file, the shipped file of that name, or as its cache recorded it.

    Args:
        reference: The suite file or name.
        path: The cache, if the user names one.
        migrate: Whether to migrate a cache of an older schema first, for commands that go on to write to it.

    Raises:
        SuiteError: There is no such suite, or its file is wrong.
    """
    from toolkit.store import Cache
    from toolkit.suites.loading import find_suite, load_config

    if not _has_file(reference):
        cache = Cache(cache_path(reference, path))
        if migrate:
            cache.migrate()
        recorded = cache.suites.get(reference) if cache.exists() else None
        if recorded:
            return SuiteFile(recorded.config, cache, Workspace.beside(cache.path), is_recorded=True)
    file = find_suite(reference)
    config = load_config(file)
    cache = Cache(cache_path(config.name, path))
    if migrate:
        cache.migrate()
    return SuiteFile(config, cache, Workspace.beside(cache.path, file.parent))


def resolve_suite(file: SuiteFile, *, trust: bool) -> "Suite":
    """Resolve a suite into keys; the data of benchmarks that its cache has recorded are not loaded again.

    Args:
        file: The suite.
        trust: Whether Python files of benchmarks run without asking the user.
    """
    from toolkit.suites.resolving import resolve

    recorded = file.cache.suites.get(file.config.name) if file.cache.exists() else None
    return resolve(file.config, file.workspace, recorded, trust=consent(trust), is_recorded=file.is_recorded)


def open_recorded(reference: str, path: Path | None) -> "tuple[Suite, SuiteConfig, Cache]":
    """Open the cache of a suite, migrated if its schema is older.

    Returns:
        The suite as recorded, its file's settings (the recorded ones if it has no file; the limits of `generate --limit` if
        that was the last run), and the cache.

    Raises:
        CacheError: There is no such cache.
        SuiteError: The cache does not have the suite.
    """
    from toolkit.store import Cache
    from toolkit.suites.benchmarks import register_metrics
    from toolkit.suites.loading import find_suite, load_config

    file = find_suite(reference) if _has_file(reference) else None
    config = load_config(file) if file else None
    name = config.name if config else reference
    cache = Cache(cache_path(name, path))
    if not cache.exists():
        raise _missing_cache(reference, cache, path)
    cache.migrate()
    recorded = cache.suites.get(name)
    if recorded is None:
        raise SuiteError(
            f"The cache {cache.path} has no suite {name!r}; recorded: {', '.join(cache.suites.names()) or 'none'}. "
            f"Generate it first: {command('generate', reference, cache=cache.path)}"
        )
    if file is None or config is None:
        return recorded, recorded.config, cache
    register_metrics(config, Workspace.beside(cache.path, file.parent), consent(False))
    limited = config.limited_like(recorded.config)
    if limited != config:
        note(
            f"Suite {name}: the first questions of each benchmark, as generated last ({len(recorded.questions)} in all). "
            f"To generate all: {command('generate', reference, cache=path)}"
        )
    return recorded, limited, cache


def open_suite(reference: str, path: Path | None) -> "tuple[Suite, Cache]":
    """Open a recorded suite and its cache, after applying its file: prices, metrics and splits may have changed.

    Raises:
        CacheError: There is no such cache.
        SuiteError: The cache does not have the suite, or its file needs texts that were not generated.
    """
    from toolkit.generation.rescoring import apply_suite_file

    recorded, config, cache = open_recorded(reference, path)
    with generate_if_changed(reference, path):
        return apply_suite_file(recorded, config, cache), cache


@contextmanager
def generate_if_changed(reference: str, path: Path | None) -> Iterator[None]:
    """Add the command to the error of a `with` block whose suite file needs texts that were not generated.

    Raises:
        SuiteChangedError: The file needs them.
    """
    try:
        yield
    except SuiteChangedError as error:
        raise SuiteChangedError(f"{error} The command: {command('generate', reference, cache=path)}") from None


def train_config(suite: "Suite", settings: list[str] | None, **options: object) -> "TrainConfig":
    """Return the training settings of a suite, changed by `--set` and by the options that are not None.

    Raises:
        SuiteError: A setting is unknown, or its value is not allowed.
    """
    changes = {name: value for name, value in options.items() if value is not None}
    return suite.config.train.changed(parse_settings(settings or [])).changed(changes)


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Parse `--set ppo.learning_rate=3e-4 --set timesteps=1000`; values are TOML, except that text needs no quotes.

    Raises:
        SuiteError: A setting has no `=`.
    """
    parsed: dict[str, Any] = {}
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
            parsed.setdefault(section, {})[field] = value
        else:
            parsed[section] = value
    return parsed


def _is_file(reference: str) -> bool:
    return reference.endswith(".toml") or "/" in reference


def _has_file(reference: str) -> bool:
    from toolkit.suites.loading import shipped_suites

    return _is_file(reference) or reference in shipped_suites()


def _missing_cache(reference: str, cache: "Cache", path: Path | None) -> CacheError:
    """Return the error that says how to make a suite's cache, or that lists the suites if there is no such suite."""
    from benchmarks.reference import SUITE
    from toolkit.suites.loading import shipped_suites

    message, usual = f"There is no cache {cache.path}.", cache_path(reference, None)
    if path and usual.exists():
        return CacheError(f"{message} Suite {reference!r} has one: leave --cache out, or name it: --cache {quote(str(usual))}")
    beside = Path(reference).parent / "cache" / cache.path.name
    if not path and _is_file(reference) and beside.is_file():
        return CacheError(f"{message} The folder of the suite file has one; name it: --cache {quote(str(beside))}")
    if _has_file(reference):
        if reference == SUITE:
            message += f"\nTo import the shipped one: {command('import', 'reference', cache=path)}"
        return CacheError(f"{message}\nTo make it: {command('generate', reference, cache=path)}")
    names = {*shipped_suites(), *(file.stem for file in cache_folder().glob("*.duckdb"))}
    return CacheError(
        f"{message} There is no suite {reference!r} either: {did_you_mean(reference, names)}, or a file NAME.toml."
    )
