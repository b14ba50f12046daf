"""What a finished run leaves for later pages, readable without torch: ``predictions.npz`` and ``features.npz``.

Reads: the test images. Writes: the two files, in its own run folder. Never: checkpoints.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kdengine import networks
from kdengine.assembly import Parts
from kdengine.data.augment import evaluation_batches
from kdengine.data.contract import Images
from kdengine.durable import write_aside
from kdengine.evaluate import collect
from kdengine.networks import NetworkView
from kdengine.rundir import RunDir

FEATURE_IMAGES = 512
FEATURE_SIDE = 8  # stage maps are averaged down to this side; attention maps keep theirs
BATCH = 256


Arrays = dict[str, np.ndarray]


def make(
    parts: Parts, autocast: Callable[[], AbstractContextManager[object]], device: torch.device, with_teacher: bool
) -> tuple[Arrays, Arrays]:
    """Return the arrays of both files from the networks as they are at the end of the training.

    ``predictions``: ``labels (N,)``, ``logits_<network> (N, K)`` fp16, over all test images in order.
    ``features``: ``index (M,)`` into the test images (the same M <= 512 in every run of a dataset), and per network
    ``embedding_<network> (M, D)``, ``stage<i>_<network> (M, C, h, w)`` with h, w <= 8, ``attention<i>_<network> (M, H, W)``
    (mean over channels of the squared map), all fp16. ``with_teacher``: its features too; a teacher that is a run of ours
    has left them in its own folder.
    """
    data = parts.data
    views = dict(parts.students) | ({"teacher": parts.teacher} if parts.teacher is not None else {})
    index = torch.linspace(0, len(data.test.y) - 1, min(FEATURE_IMAGES, len(data.test.y))).round().long()
    few = data.test.take(index.to(data.test.x.device))
    predictions: Arrays = {"labels": data.test.y.cpu().numpy()}
    features: Arrays = {"index": index.numpy()}
    for name, view in views.items():
        with networks.evaluating(view.network), autocast(), torch.no_grad():
            predictions[f"logits_{name}"] = _half(collect(view, data.test, data, BATCH, device))
            taps = NetworkView(view.network, frozenset({"embedding", "stages"}), no_grad=True, half=view.half)
            if name != "teacher" or with_teacher:
                features |= _features(name, taps, few, parts, device)
    return predictions, features


def write(run: RunDir, predictions: Arrays, features: Arrays) -> None:
    """Write both files aside and rename them.

    Raises:
        OSError: the disk is full; nothing half-written stays.
    """
    for file, arrays in ((run.predictions_npz, predictions), (run.features_npz, features)):
        held = io.BytesIO()
        np.savez(held, **arrays)  # type: ignore[arg-type]
        write_aside(file, held.getvalue())


def _features(name: str, view: NetworkView, images: Images, parts: Parts, device: torch.device) -> dict[str, np.ndarray]:
    found: dict[str, list[Tensor]] = {}
    for x, _ in evaluation_batches(images, BATCH, parts.data.mean, parts.data.std, device, channels_last=True):
        outputs = view(x)
        assert outputs.embedding is not None and outputs.stages is not None
        found.setdefault(f"embedding_{name}", []).append(outputs.embedding)
        for i, stage in enumerate(outputs.stages, 1):
            side = min(FEATURE_SIDE, stage.shape[-1])
            found.setdefault(f"stage{i}_{name}", []).append(F.adaptive_avg_pool2d(stage.float(), side))
            found.setdefault(f"attention{i}_{name}", []).append(stage.float().square().mean(dim=1))
    return {key: _half(torch.cat(values)) for key, values in found.items()}


def _half(values: Tensor) -> np.ndarray:
    largest = torch.finfo(torch.float16).max
    return values.float().clamp(-largest, largest).cpu().numpy().astype(np.float16)
