"""Do torch and torchvision load together? ``python -m kdengine.torch_pair`` says so, or what to install.

A torch for CPUs only beside a torchvision from the package registry (built for CUDA) installs without complaint and then
fails at import with ``operator torchvision::nms does not exist``.
Reads: the metadata of the installed packages; starts one child process that imports both. Writes: nothing.
Never: torch in this process.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata

from kdengine.errors import Problem

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE = "import torch, torchvision; torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)"


@dataclass(frozen=True, slots=True)
class Pair:
    """What is installed (None = missing), what this torchvision ``wants`` (``==2.6.0``), the ``error`` of importing both."""

    torch: str | None
    torchvision: str | None
    wants: str | None
    error: str

    @property
    def cpu_only(self) -> bool:
        """Whether the installed torch is a build without CUDA, as far as its version tells."""
        return bool(self.torch and self.torch.endswith("+cpu"))


def installed(timeout_s: float = 120) -> Pair:
    """Look at this Python's packages and try to import both, in a child process."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=timeout_s, check=False)
    return described(done)


def described(done: subprocess.CompletedProcess[str]) -> Pair:
    """Return the pair as a process that imported both has left it: its exit status and last words say whether they load."""
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return Pair(_version("torch"), _version("torchvision"), _wanted_torch(), lines[-1] if done.returncode else "")


def problem(pair: Pair, python: str = sys.executable) -> Problem | None:
    """Return what is wrong with the pair, None when it loads."""
    if not pair.error:
        return None
    missing = [name for name, version in (("torch", pair.torch), ("torchvision", pair.torchvision)) if version is None]
    if missing:
        given = f"{' and '.join(missing)} not installed in this Python"
    else:
        given = f"torch {pair.torch} with torchvision {pair.torchvision}, which do not load together ({pair.error})"
    wants = f"torchvision {pair.torchvision} asks for torch{pair.wants}; " if pair.wants else ""
    return Problem(
        "torch",
        given,
        f"{wants}both of one release and from one place, with CUDA or for CPUs only",
        f"run: {install_command(pair, python)}",
    )


def install_command(pair: Pair, python: str = sys.executable) -> str:
    """Return the command that installs a fitting pair: CPU-only stays CPU-only, everything else takes the plain wheels."""
    index = f" --index-url {CPU_INDEX}" if pair.cpu_only else ""
    torch = f"torch=={pair.torch.split('+')[0]}" if pair.torch else '"torch>=2.6,<3"'
    return f"{python} -m pip install --force-reinstall {torch} torchvision{index}"


def main() -> int:
    """Print one line when all is well, else the problem in its three parts; return the exit status."""
    pair = installed()
    found = problem(pair)
    if found is None:
        print(f"torch {pair.torch} and torchvision {pair.torchvision} load together")
        return 0
    print(f"given:   {found.given}\nallowed: {found.allowed}\nnext:    {found.do}", file=sys.stderr)
    return 1


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _wanted_torch() -> str | None:
    try:
        wants = metadata.requires("torchvision") or []
    except metadata.PackageNotFoundError:
        return None
    found = (re.match(r"torch\s*\(?([=<>~!][^);]*)", line) for line in wants)
    return next((match.group(1).strip() for match in found if match), None)


if __name__ == "__main__":
    sys.exit(main())
