"""Devices and precision: what is picked, and what is said when it is not there."""

from __future__ import annotations

import pytest
import torch

from kdengine import devices
from kdengine.errors import KdError
from kdengine.spec import RunSpec

CPU = torch.device("cpu")


def processor(monkeypatch, *, name, avx512_bf16=False, amx=False):
    monkeypatch.setattr(devices, "device_name", lambda _: name)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)


@pytest.mark.parametrize(
    ("name", "avx512_bf16", "amx", "expected"),
    [
        ("AMD EPYC 9654", True, False, "bf16"),
        ("Intel(R) Xeon(R) Processor", True, False, "fp32"),
        ("Intel(R) Xeon(R) Platinum 8480+", True, True, "bf16"),
        ("AMD EPYC 7763", False, False, "fp32"),
    ],
)
def test_auto_is_bf16_only_where_it_is_faster(monkeypatch, name, avx512_bf16, amx, expected):
    processor(monkeypatch, name=name, avx512_bf16=avx512_bf16, amx=amx)
    assert devices.pick_precision(RunSpec(recipe="paper"), CPU) == expected
    assert devices.pick_precision(RunSpec(recipe="quick"), CPU) == "fp32", "small steps are slower in bf16 everywhere"
    for wish in ("fp32", "bf16"):
        assert devices.pick_precision(RunSpec(precision=wish), CPU) == wish


def test_a_device_that_is_not_there_is_an_error_that_names_those_that_are():
    assert devices.pick_device("cpu") == CPU
    missing = f"cuda:{torch.cuda.device_count() + 7}"
    with pytest.raises(KdError, match="auto, cpu"):
        devices.pick_device(missing)


@pytest.mark.parametrize(("batch", "advice"), [(128, 64), (100, 64), (3, 2), (2, 2)])
def test_out_of_memory_advises_the_next_smaller_power_of_two(batch, advice):
    assert f"batch_size {advice}" in str(devices.out_of_memory(batch, CPU))


def test_memory_faults_are_told_from_other_faults():
    assert devices.is_out_of_memory(MemoryError())
    assert devices.is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"))
    assert not devices.is_out_of_memory(RuntimeError("size mismatch"))
    assert devices.peak_mib(CPU) > 50
