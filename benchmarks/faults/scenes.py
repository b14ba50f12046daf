"""All scenes by name, with the counts of a full campaign.

Reads / writes: nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.faults import clocks, disks, exports, files, intake, servers, viewers, workers
from benchmarks.faults.stage import Stage


@dataclass(frozen=True, slots=True)
class Scene:
    """``count``: times in a full campaign; ``kills``: these are kills; ``small_disk``: plays on one that can be filled."""

    play: Callable[[Stage], None]
    count: int
    kills: bool = False
    small_disk: bool = False

    @property
    def words(self) -> str:
        """What happens in it."""
        return (self.play.__doc__ or self.play.__name__).strip()


SCENES = {
    "worker_killed": Scene(workers.worker_killed, 200, kills=True),
    "training_killed": Scene(workers.training_killed, 24, kills=True),
    "died_before_first_line": Scene(workers.died_before_first_line, 5),
    "two_ticks": Scene(workers.two_ticks, 10),
    "ingester_killed": Scene(intake.ingester_killed, 110, kills=True),
    "publisher_killed": Scene(intake.publisher_killed, 70, kills=True),
    "exporter_killed": Scene(exports.exporter_killed, 60, kills=True),
    "server_killed": Scene(servers.server_killed, 40, kills=True),
    "two_servers": Scene(servers.two_servers, 10),
    "corrupt_checkpoint": Scene(files.corrupt_checkpoint, 4),
    "torn_lines": Scene(files.torn_lines, 8),
    "truncated_record": Scene(files.truncated_record, 60),
    "database_deleted": Scene(files.database_deleted, 8),
    "full_disk": Scene(disks.full_disk, 5, small_disk=True),
    "disk_full_at_random": Scene(disks.disk_full_at_random, 25, small_disk=True),
    "clock_jumps": Scene(clocks.clock_jumps, 16),
    "hammering": Scene(viewers.hammering, 60),
}
