"""The loader: random order, crop, flip and normalisation of whole batches on the device, without a host sync.

Reads / writes: nothing. Never: the global random state; all randomness comes from the generator that is passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from kdengine.data.contract import Images
from kdengine.errors import Problem, SpecError

CropMode: TypeAlias = Literal["reflect", "zero"]
BLOCK_BYTES = 2 << 20  # small batches are augmented several at once: a step of 16 images costs no more launches than one of 160
Values: TypeAlias = Sequence[float] | Tensor


def normalise(x: Tensor, mean: Values, std: Values) -> Tensor:
    """Return ``(x / 255 - mean) / std`` in fp32 for ``x (B, 3, H, W)`` uint8; ``mean``, ``std`` per channel, scale 0 to 1."""
    m = torch.as_tensor(mean, dtype=torch.float32, device=x.device).view(-1, 1, 1)
    s = torch.as_tensor(std, dtype=torch.float32, device=x.device).view(-1, 1, 1)
    return x.float().div_(255).sub_(m).div_(s)


def draw(count: int, crop_pad: int, flip: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return for ``count`` images the crop's corner ``(count, 2)`` in [0, 2 * crop_pad], y before x, and who is mirrored.

    Drawn on the CPU, so that every device sees the same images.
    """
    corners = torch.randint(0, 2 * crop_pad + 1, (count, 2), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5 if flip else torch.zeros(count, dtype=torch.bool)
    return corners, mirrored


def augment(x: Tensor, corners: Tensor, mirrored: Tensor, crop_pad: int, crop_mode: CropMode = "reflect") -> Tensor:
    """Crop and mirror every image of ``x (B, C, H, W)`` on its device; the shape stays.

    Image i is padded by ``crop_pad`` on all sides (mirrored at the edge pixel, or zeros = black), cut at
    ``corners[i]`` = (y, x), and mirrored left to right where ``mirrored[i]``. ``reflect`` needs crop_pad < min(H, W).
    """
    b, c, h, w = x.shape
    across = torch.arange(w, device=x.device)
    rows = corners[:, :1] + torch.arange(h, device=x.device) - crop_pad  # (B, H), may lie outside
    columns = corners[:, 1:] + torch.where(mirrored[:, None], across.flip(0), across) - crop_pad
    if crop_mode == "reflect":
        return _gather(x, _reflected(rows, h), _reflected(columns, w))
    inside = ((rows >= 0) & (rows < h))[:, :, None] & ((columns >= 0) & (columns < w))[:, None, :]
    return _gather(x, rows.clamp(0, h - 1), columns.clamp(0, w - 1)) * inside.view(b, 1, h, w).to(x.dtype)


def _reflected(index: Tensor, size: int) -> Tensor:
    """Map places outside [0, size) back, as ``numpy.pad(mode="reflect")`` does."""
    return (size - 1) - ((size - 1) - index.abs()).abs()


def _gather(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pick pixel (rows[i, y], columns[i, x]) of image i: one gather, twice as fast as slicing windows out."""
    b, c, h, w = x.shape
    place = (rows[:, :, None] * w + columns[:, None, :]).view(b, 1, h * w)
    return x.reshape(b, c, h * w).gather(2, place.expand(b, c, h * w)).view(b, c, h, w)


class Loader:
    """One pass over the training images per ``iter``: batches ``(x, y, index)``, all on the device.

    ``x (B, 3, H, W)`` fp32, normalised; ``y (B,)`` and ``index (B,)`` int64, ``index`` into ``images``. Order and
    augmentation of an epoch come from ``generator`` (a CPU generator) when the epoch begins; its state at the end of an
    epoch is all that a checkpoint needs. Up to ``resident_limit_mib`` MiB of images live on the device; more stays in the
    host's memory and is sent batch by batch, which gives the same batches. Batches may share memory with one another.

    Raises:
        SpecError: fewer images than a batch; a padding that cannot be reflected.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        crop_pad: int,
        crop_mode: CropMode,
        flip: bool,
        generator: torch.Generator,
        device: torch.device | str,
        channels_last: bool,
        drop_last: bool = True,
        resident_limit_mib: float = 4096,
    ) -> None:
        self.batch_size, self.crop_pad, self.crop_mode, self.flip = batch_size, crop_pad, crop_mode, flip
        self.drop_last, self.generator, self.device = drop_last, generator, torch.device(device)
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._check(images)
        self.resident = images.x.numel() <= resident_limit_mib * 2**20
        self._x = images.x.to(self.device) if self.resident else images.x
        self._y = images.y.to(self.device)
        self._mean = torch.tensor(mean, dtype=torch.float32, device=self.device)
        self._std = torch.tensor(std, dtype=torch.float32, device=self.device)
        batch_bytes = batch_size * images.x[0].numel() * 4
        self._block = batch_size * max(1, BLOCK_BYTES // batch_bytes)

    def __len__(self) -> int:
        """Steps of an epoch."""
        return len(self._y) // self.batch_size if self.drop_last else -(-len(self._y) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        count = min(len(self) * self.batch_size, len(self._y))
        order = torch.randperm(len(self._y), generator=self.generator)[:count]
        corners, mirrored = draw(count, self.crop_pad, self.flip, self.generator)
        index, corners, mirrored = (t.to(self.device) for t in (order, corners, mirrored))
        y = self._y.index_select(0, index)
        for first in range(0, count, self._block):
            block = slice(first, min(first + self._block, count))
            x = self._pick(order[block], index[block])
            if self.crop_pad or self.flip:
                x = augment(x, corners[block], mirrored[block], self.crop_pad, self.crop_mode)
            x = normalise(x, self._mean, self._std).contiguous(memory_format=self._format)
            for start in range(first, block.stop, self.batch_size):
                batch = slice(start, min(start + self.batch_size, count))
                yield x[start - first : batch.stop - first], y[batch], index[batch]

    def again(self, index: Tensor) -> Tensor:
        """Return a further view of the images at ``index (B,)``: another crop and flip of each, ``(B, 3, H, W)`` like ``x``.

        Drawn from the same generator, when it is asked for.
        """
        corners, mirrored = (t.to(self.device) for t in draw(len(index), self.crop_pad, self.flip, self.generator))
        x = self._pick(index if self.resident else index.cpu(), index)
        x = augment(x, corners, mirrored, self.crop_pad, self.crop_mode)
        return normalise(x, self._mean, self._std).contiguous(memory_format=self._format)

    def _pick(self, order: Tensor, index: Tensor) -> Tensor:
        if self.resident:
            return self._x.index_select(0, index)
        x = self._x.index_select(0, order)
        if self.device.type == "cuda":  # pinned, so that the copy runs beside the training
            return x.pin_memory().to(self.device, non_blocking=True)
        return x.to(self.device)

    def _check(self, images: Images) -> None:
        problems = []
        if len(images) < self.batch_size and self.drop_last:
            problems.append(
                Problem(
                    "batch_size",
                    f"{self.batch_size} with {len(images)} training images",
                    f"2 to {len(images)}",
                    "choose a smaller batch_size or more train_images",
                )
            )
        size = min(images.x.shape[-2:])
        if self.crop_mode == "reflect" and self.crop_pad >= size:
            problems.append(
                Problem(
                    "crop_pad",
                    f"{self.crop_pad} with images of {size} pixels",
                    f"0 to {size - 1} by reflection",
                    "choose a smaller crop_pad",
                )
            )
        if problems:
            raise SpecError(*problems)


def evaluation_batches(
    images: Images, batch_size: int, mean: Values, std: Values, device: torch.device | str, channels_last: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``(x, y)`` in order, nothing left out (the last batch may be smaller), normalised, on ``device``.

    Pass ``images.to(device)`` once where they fit there, and nothing is copied again.
    """
    where = torch.device(device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    m = torch.as_tensor(mean, dtype=torch.float32, device=where)
    s = torch.as_tensor(std, dtype=torch.float32, device=where)
    for first in range(0, len(images), batch_size):
        batch = slice(first, first + batch_size)
        x = images.x[batch].to(where, non_blocking=True)
        yield normalise(x, m, s).contiguous(memory_format=layout), images.y[batch].to(where, non_blocking=True)
