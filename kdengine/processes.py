"""How a process of ours is started beside the one that asks: workers of runs, errands.

Reads: the environment. Writes: the log it is told of. Never: what the process does, hosting and its secret in its environment.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from kdengine import hosting
from kdengine.home import Home

NICENESS = 5  # below the server, so that pages stay quick while all cores train


def start(
    module: str, arguments: Sequence[str], home: Home, log: Path, lock: int, told: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start ``python -m module``, adding to ``log``; it outlives this process and inherits the descriptor ``lock``.

    ``told``: what its environment says beyond ours. How the app is hosted is none of its business, and what it prints may be
    read by people to whom the secret of the proxy is not.

    Raises:
        OSError: no process can be started, or the log cannot be written.
    """
    environment = {name: value for name, value in os.environ.items() if name not in hosting.VARIABLES}
    environment |= {**told, "KD_HOME": str(home.root), "PYTHONUNBUFFERED": "1"}
    source = Path(__file__).resolve().parents[1]
    if source.name not in ("site-packages", "dist-packages"):  # a clone that is not installed, from whatever folder
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(source), os.environ.get("PYTHONPATH"))))
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            cwd=home.root, env=environment, start_new_session=True, pass_fds=(lock,),
        )  # fmt: skip
    with contextlib.suppress(OSError):  # it may be gone already; niceness is a courtesy
        os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
    return process
