"""What docs/hosting.md promises about upgrades: a training that runs meanwhile reads none of the new code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, status_of

ROOT = Path(__file__).resolve().parents[2]
# what a worker does, and besides: which modules it loads after its first epoch has ended
WATCHED = """
import sys
from pathlib import Path
from kdengine.rundir import RunDir

loaded = []
written = RunDir.append_event

def append(run, event):
    written(run, event)
    if type(event).__name__ == "EpochEnded" and not loaded:
        loaded.extend(sys.modules)

RunDir.append_event = append
from kdengine import worker

worker.main(Path(sys.argv[1]))
late = sorted(set(sys.modules) - set(loaded))
print("late:", [name for name in late if name.partition(".")[0] not in sys.stdlib_module_names])
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_worker_has_read_its_code_when_its_first_epoch_ends(home: Home) -> None:
    run = RunDir.create(home, RunSpec(student="resnet8", dataset="digits", epochs=2, train_images=64))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", WATCHED, str(run.path)], env=env, capture_output=True, text=True, timeout=200)
    assert status_of(run, home) is RunStatus.FINISHED, done.stderr
    assert done.stdout.splitlines()[-1] == "late: []"
