"""The real worker, with a witness: ``KD_WORKER_MODULE=benchmarks.faults.noting_worker``.

Reads / writes: as ``kdengine.worker``; and the ledger.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.faults import ledger
from kdengine import worker

if __name__ == "__main__":
    ledger.witness()
    sys.exit(worker.main(Path(sys.argv[1])))
