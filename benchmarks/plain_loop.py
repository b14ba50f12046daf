"""The plain way to distil, as the library behind Chen et al. 2024 trains: what our loop is measured against.

DataLoader with workers and PIL transforms, fp32, NCHW, teacher in eval mode under no_grad, the loss values and the accuracy
fetched by ``.item()`` in every step. Only the network classes are ours, so that both loops compute the same thing.
Reads: parquet files, teacher weights. Writes: nothing.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from benchmarks.measuring import ForeignLoad
from kdengine import models
from kdengine.methods.contract import Phase
from kdengine.schedule import Stage, learning_rate
from kdengine.spec import RunSpec

WORKERS = 4


class Pictures(Dataset[tuple[Tensor, int]]):
    """A split in memory as arrays, turned into a PIL image and through the transforms one at a time."""

    def __init__(self, file: Path, transform: Any) -> None:
        rows = pq.read_table(file).to_pydict()
        self.arrays = [np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")) for cell in rows["img"]]
        self.labels = rows["label"]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[position])), self.labels[position]


class Loop:
    """Networks, optimiser and data of one plain training."""

    def __init__(self, spec: RunSpec, parquet: Path) -> None:
        torch.manual_seed(spec.seed)
        self.spec, self.device = spec, torch.device(spec.device)
        train_file, test_file = (next(parquet.rglob(f"{split}*.parquet")) for split in ("train", "test"))
        plain = Pictures(train_file, transforms.ToTensor())
        pixels = torch.from_numpy(np.stack(plain.arrays)).float() / 255
        tail = [transforms.ToTensor(), transforms.Normalize(pixels.mean((0, 1, 2)).tolist(), pixels.std((0, 1, 2)).tolist())]
        crop = [
            transforms.Pad(spec.crop_pad, padding_mode="reflect"),
            transforms.RandomCrop(32),
            transforms.RandomHorizontalFlip(),
        ]
        plain.transform = transforms.Compose([*crop, *tail])
        self.train_set, self.test_set = plain, Pictures(test_file, transforms.Compose(tail))
        classes = max(plain.labels) + 1
        self.student = self._network(spec.student, classes).train()
        self.teacher = self._network(str(spec.teacher), classes).eval().requires_grad_(False)
        self.teacher.load_state_dict(safetensors.torch.load_file(str(spec.teacher_weights)))
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr=spec.lr, momentum=spec.momentum,
                                         weight_decay=spec.weight_decay, nesterov=spec.nesterov)  # fmt: skip

    def _network(self, model: str, classes: int) -> nn.Module:
        return models.build(model, classes, 32, {}).to(self.device, memory_format=torch.contiguous_format)

    def batches(self, images: int | None = None) -> DataLoader[tuple[Tensor, Tensor]]:
        """Return a loader over the training set, or over ``images`` draws with replacement (for one long measurement)."""
        sampler = RandomSampler(self.train_set, replacement=images is not None, num_samples=images)
        return DataLoader(self.train_set, self.spec.batch_size, sampler=sampler, num_workers=WORKERS, drop_last=True,
                          pin_memory=self.device.type == "cuda")  # fmt: skip

    def step(self, x: Tensor, y: Tensor) -> tuple[float, float, float, float]:
        """Do one step; fetch loss, its two parts and the accuracy at once, as the library does."""
        x, y = x.to(self.device), y.to(self.device)
        logits_s = self.student(x).logits
        with torch.no_grad():
            logits_t = self.teacher(x).logits
        T = float(self.spec.params["T"])
        ce = F.cross_entropy(logits_s, y)
        soft = F.kl_div(F.log_softmax(logits_s / T, 1), F.softmax(logits_t / T, 1), reduction="batchmean") * T * T
        loss = float(self.spec.params["lambda_ce"]) * ce + float(self.spec.params["lambda_kd"]) * soft
        right = (logits_s.argmax(1) == y).float().mean()
        seen = (loss.item(), ce.item(), soft.item(), right.item())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return seen

    @torch.no_grad()
    def top1_frac(self) -> float:
        """Return the student's accuracy on the test images."""
        self.student.eval()
        right = sum(
            (self.student(x.to(self.device)).logits.argmax(1).cpu() == y).sum().item() for x, y in DataLoader(self.test_set, 256)
        )
        self.student.train()
        return right / len(self.test_set)


def speed(spec: RunSpec, parquet: Path, warm_up: int, steps: int) -> dict[str, float]:
    """Return images per second over ``steps`` steps after ``warm_up``, and the others' share of the machine."""
    loop, load, began = Loop(spec, parquet), ForeignLoad(), 0.0
    for number, (x, y) in enumerate(loop.batches(spec.batch_size * (warm_up + steps + WORKERS))):
        if number == warm_up:
            load.start()
            began = time.perf_counter()
        if number == warm_up + steps:  # the workers are still alive: their time counts as ours
            return {"images_per_s": steps * spec.batch_size / (time.perf_counter() - began), "foreign": load.share()}
        loop.step(x, y)
    raise RuntimeError("the loader ended before the measurement")


def accuracy(spec: RunSpec, parquet: Path) -> float:
    """Train for the spec's epochs with its schedule; return the test accuracy after the last one."""
    loop = Loop(spec, parquet)
    stage = Stage(Phase(), spec.epochs, (0,))
    for epoch in range(spec.epochs):
        batches = loop.batches()
        for step, (x, y) in enumerate(batches):
            for group in loop.optimizer.param_groups:
                group["lr"] = learning_rate(spec, stage, epoch, step, len(batches))
            loop.step(x, y)
    return loop.top1_frac()
