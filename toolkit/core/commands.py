"""Command lines in messages: each works as printed, in the folder and for the cache that the user works with.

A message prints a command at the end of a line, alone or after a colon, and nothing after it, so that it can be copied; a test
runs every one that it finds.
"""

import shlex
from pathlib import Path


def command(*words: object, cache: Path | None = None) -> str:
    """Return a command line of the toolkit, quoted for the shell.

    Args:
        words: Command, arguments and options.
        cache: The cache, if the user has named one.
    """
    option = ["--cache", str(cache)] if cache else []
    return shlex.join(["toolkit", *map(str, words), *option])
