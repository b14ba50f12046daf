"""Places to train: GPUs as the user made them visible, a share of the cores each."""

from __future__ import annotations

import pytest

from kdengine import slots as places
from kdengine.home import Home
from kdengine.slots import Slots, slots
from kdengine.spec import RunSpec


def large(device: str = "auto") -> RunSpec:
    return RunSpec(recipe="paper", device=device)


def small() -> RunSpec:
    return RunSpec()


@pytest.fixture(autouse=True)
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_gpu_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    places._visible_gpus.cache_clear()


VISIBLE = [
    (None, ("0", "1", "2", "3")), ("2,3", ("2", "3")), ("", ()), ("-1", ()), ("1,-1,2", ("1",)),
    ("GPU-ab, MIG-c", ("GPU-ab", "MIG-c")),
]  # fmt: skip


@pytest.mark.parametrize(("visible", "gpus"), VISIBLE)
def test_visible_devices_are_respected(home: Home, monkeypatch: pytest.MonkeyPatch, visible: str | None, gpus: object) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert slots(home).gpus == gpus


def test_a_worker_that_sees_one_gpu_still_knows_all_places(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    told = slots(home).environment("cuda:2")
    assert told["CUDA_VISIBLE_DEVICES"] == "2"
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert slots(home).gpus == ("0", "1", "2", "3")


def test_runs_go_where_they_ask_and_wait_where_all_is_taken() -> None:
    machine = Slots(("0", "1"), per_gpu=1, cpu=1, cores=8)
    assert machine.pick(large(), []) == "cuda:0" and machine.pick(large(), ["cuda:0"]) == "cuda:1"
    assert machine.pick(large("cuda:1"), ["cuda:1"]) is None and machine.pick(large(), ["cuda:0", "cuda:1"]) is None
    assert machine.pick(large("cpu"), ["cuda:0"]) == "cpu" and machine.environment("cpu")["CUDA_VISIBLE_DEVICES"] == ""
    assert Slots(("0",), per_gpu=2, cpu=0).pick(large("cuda"), ["cuda:0"]) == "cuda:0"
    alone = Slots((), per_gpu=1, cpu=1)
    assert alone.pick(large(), []) == alone.pick(large("cuda:7"), []) == "cpu", "its own check says that the device is missing"
    assert "CUDA_VISIBLE_DEVICES" not in alone.environment("cpu")


def test_runs_of_small_steps_share_the_cores_and_large_ones_take_all() -> None:
    machine = Slots((), per_gpu=1, cpu=1, cores=4, small=4)
    assert machine.pick(small(), ["core"] * 3) == "core" and machine.pick(small(), ["core"] * 4) is None
    assert machine.pick(small(), ["cpu"]) is None and machine.pick(large(), ["core"]) is None
    assert machine.pick(large(), []) == "cpu" and machine.pick(large(), ["cpu"]) is None
    assert machine.environment("core")["OMP_NUM_THREADS"] == "1" and machine.environment("cpu")["OMP_NUM_THREADS"] == "4"
    two = Slots((), per_gpu=1, cpu=2, cores=4, small=2)
    assert two.pick(large(), ["cpu"]) == "cpu" and two.environment("cpu")["OMP_NUM_THREADS"] == "2"
    assert two.pick(small(), ["core", "core"]) is None


def test_the_number_of_workers_on_the_cpu_is_the_users_to_choose(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert (slots(home).cpu, slots(home).small) == (1, max(1, min(slots(home).cores, memory() // (2 << 30))))
    home.settings.write_text('{"cpu_slots": 3}')
    assert (slots(home).cpu, slots(home).small) == (3, 3)


def memory() -> int:
    return int(places.psutil.virtual_memory().total)


def test_a_cpu_machine_has_at_least_one_place(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    home.settings.write_text('{"cpu_slots": 0}')
    assert slots(home).names == ["cpu"]
