"""The place where everything of one installation lives: runs, results, data, exports, locks.

Reads: the environment (``KD_HOME``, ``KD_ALLOW_NETWORK_DISK``); nobody else does. Writes: the folders themselves.
Never: a file inside them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from kdengine.errors import HomeError

NETWORK_DISKS = {"nfs", "nfs4", "cifs", "smbfs", "smb3", "afpfs", "fuse.sshfs", "fuse.glusterfs", "lustre", "beegfs"}


@dataclass(frozen=True, slots=True)
class Home:
    """One ``KD_HOME``. Built once at the edge and passed on; paths are never module constants."""

    root: Path

    @classmethod
    def find(cls) -> Home:
        """Return the home that ``KD_HOME`` names (default ``~/.kd``), its folders made.

        Raises:
            HomeError: it lies on a network disk (``KD_ALLOW_NETWORK_DISK=1`` overrides) or cannot be written.
        """
        root = Path(os.environ.get("KD_HOME") or "~/.kd").expanduser().absolute()
        return cls(root).made(allow_network=os.environ.get("KD_ALLOW_NETWORK_DISK") == "1")

    def made(self, allow_network: bool = False) -> Home:
        """Make the folders, refuse a network disk, and return this home.

        Raises:
            HomeError: see ``find``.
        """
        try:
            for folder in (self.runs, self.data, self.exports, self.locks):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HomeError.of(
                f"{self.root} ({error.strerror or error})",
                "a folder that this user may write",
                "set KD_HOME to another folder",
                "KD_HOME",
            ) from error
        kind = disk_type(self.root)
        if kind in NETWORK_DISKS and not allow_network:
            raise HomeError.of(
                f"{self.root}, on a network disk ({kind})",
                "a local disk: locks and the results database are not safe on a network disk",
                "set KD_HOME to a local folder, or KD_ALLOW_NETWORK_DISK=1 if only one machine ever uses it",
                "KD_HOME",
            )
        return self

    @property
    def runs(self) -> Path:
        """Run folders and nothing else; folder name = run id."""
        return self.root / "runs"

    @property
    def results(self) -> Path:
        """The results database; one process at a time has it open."""
        return self.root / "results.duckdb"

    @property
    def snapshot(self) -> Path:
        """The published read-only copy of the results."""
        return self.root / "snapshot.duckdb"

    @property
    def data(self) -> Path:
        """Downloaded datasets and the register of your own."""
        return self.root / "data"

    @property
    def exports(self) -> Path:
        """Files made for taking away."""
        return self.root / "exports"

    @property
    def locks(self) -> Path:
        """Lock files."""
        return self.root / "locks"

    @property
    def settings(self) -> Path:
        """``settings.json``: slots per GPU, slots on a CPU machine."""
        return self.root / "settings.json"


def disk_type(path: Path) -> str:
    """Return the file-system type of the disk that holds ``path``, lower case ("" if unknown)."""
    best, kind = "", ""
    for part in psutil.disk_partitions(all=True):
        mount = part.mountpoint.rstrip("/") + "/"
        if f"{path.resolve()}/".startswith(mount) and len(mount) > len(best):
            best, kind = mount, part.fstype.lower()
    return kind
