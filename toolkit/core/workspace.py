"""The two folders that every command works with, as one value."""

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Self

SHIPPED = "shipped:"
"""How a reference begins to what the toolkit ships, such as `shipped:specialists/words`; it works from any folder."""


def cache_folder() -> Path:
    """Return the folder of caches: `$TOOLKIT_CACHE`, or else `cache` in the current folder."""
    return Path(os.environ.get("TOOLKIT_CACHE") or "cache")


@dataclass(frozen=True)
class Workspace:
    """Where a suite's relative paths start and where downloads are kept.

    Attributes:
        folder: The suite file's folder.
        downloads: Folder of fetched weights and packages, and of the hashes of local content.
    """

    folder: Path
    downloads: Path

    @classmethod
    def beside(cls, cache: Path, folder: Path | None = None) -> Self:
        """Return the workspace of a cache file: downloads beside it, and a folder, by default the current one."""
        return cls(folder or Path.cwd(), cache.parent / "weights")

    @classmethod
    def usual(cls) -> Self:
        """Return the workspace of a program that names no cache: downloads in `$TOOLKIT_CACHE`, or else in `cache`."""
        return cls(Path.cwd(), cache_folder() / "weights")

    def absolute(self) -> Self:
        """Return the same folders, independent of the current directory."""
        return type(self)(self.folder.absolute(), self.downloads.absolute())

    def path(self, reference: str) -> Path:
        """Return the path that a reference in the suite file means: relative to it, or shipped with the toolkit."""
        if reference.startswith(SHIPPED):
            return Path(str(resources.files("benchmarks"))) / reference.removeprefix(SHIPPED)
        return self.folder / os.path.expanduser(reference)  # keeps `~nobody` as it is, where pathlib raises
