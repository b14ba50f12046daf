"""A short fault campaign: every scene of ``benchmarks.faults`` that needs no real training, a few times each, with its account.

The real trainings are killed in ``test_flow``; the full counts, and what was found with them, stand in benchmarks/README.md.
"""

from __future__ import annotations

import pytest

from benchmarks.faults.__main__ import play
from benchmarks.faults.scenes import SCENES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SHORT = {
    "worker_killed": 6, "two_ticks": 1, "died_before_first_line": 1, "ingester_killed": 3, "publisher_killed": 2,
    "exporter_killed": 1, "server_killed": 1, "database_deleted": 1, "truncated_record": 3, "disk_full_at_random": 2,
    "clock_jumps": 1, "hammering": 3,
}  # fmt: skip


@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_lost_doubled_or_left_hanging(name: str) -> None:
    played = play(name, SHORT[name], seed=len(name))
    if played.verdict == "not played":
        pytest.skip(played.complaints[0])
    assert played.complaints == [] and played.verdict == "held"
    assert played.account.is_clean and played.account.runs + played.account.exports > 0
    assert sum(played.account.kills.values()) >= SHORT[name] or not SCENES[name].kills


def test_every_scene_is_played_here_or_needs_a_real_training_or_two_servers() -> None:
    assert SCENES.keys() - SHORT.keys() == {"training_killed", "corrupt_checkpoint", "torn_lines", "full_disk", "two_servers"}
    assert sum(scene.count for scene in SCENES.values() if scene.kills) >= 500
