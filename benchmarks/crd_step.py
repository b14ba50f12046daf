"""What the contrastive term costs: 16,384 negatives, batch 64, a bank of 50,000 images, against the way of the authors' code.

Each variant runs in a fresh process, alternating; a step is the term, its gradient and the renewal of the banks, without
networks. ``dense``: ours. ``gather``: negatives drawn for each image by NumPy without replacement, their rows copied and
multiplied image by image, as RepDistiller and Knowledge-Distillation-Zoo do.
Reads: nothing. Writes: a Markdown table on standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also runs as a plain file

import numpy as np
import torch
from torch import Tensor

from benchmarks.measuring import ForeignLoad, machine, spread, table
from kdengine import methods
from kdengine.losses import crd_nce
from kdengine.methods.contract import Batch, DataInfo, Method, Progress
from kdengine.models.contract import NetInfo, Outputs

ROOT = Path(__file__).resolve().parent.parent
IMAGES, CLASSES, BATCH, NEGATIVES, WIDTH = 50_000, 100, 64, 16_384, 64
VARIANTS = {"gather": "rows copied per image, NumPy draws", "dense": "ours: one dense product, one draw per step"}


class Given:
    """A network that has said its embedding already."""

    def __init__(self, embedding: Tensor) -> None:
        self.outputs = Outputs(torch.zeros(len(embedding), CLASSES), embedding)


def made(device: str) -> Method:
    """Return the method on a training set of 100 classes, 500 images each."""
    entry = methods.get("crd")
    info = NetInfo("given", CLASSES, 32, 1, 1, WIDTH, ((WIDTH, 8, 8),), (16, 32, 32), ((WIDTH, 8, 8),))
    data = DataInfo("given", IMAGES, CLASSES, 32, torch.arange(IMAGES) % CLASSES, (0.0,) * 3, (1.0,) * 3)
    torch.manual_seed(0)
    return entry.method(entry.params(nce_n=NEGATIVES), info, info, {}, data).to(device)


def dense(
    method: Method, generator: torch.Generator
) -> tuple[Callable[[Tensor, Tensor, Tensor], Tensor], Callable[[Tensor], object]]:
    """Return a function for one step's term and one for its drawing alone."""

    def term(embedding_s: Tensor, embedding_t: Tensor, index: Tensor) -> Tensor:
        batch = Batch(torch.zeros(1), index % CLASSES, index)
        return method.loss(Given(embedding_s), Given(embedding_t), batch, Progress("main", 0, 1, 0, 1, generator))["crd"]

    return term, lambda y: method._negatives(y, generator)


def gather(method: Method, _: torch.Generator) -> tuple[Callable[[Tensor, Tensor, Tensor], Tensor], Callable[[Tensor], object]]:
    """The same in the authors' way, on the same heads and banks."""
    labels = method.labels.cpu().numpy()
    others = [np.flatnonzero(labels != c) for c in range(CLASSES)]
    rng, p = np.random.default_rng(0), method.params

    def draw(y: Tensor) -> Tensor:
        return torch.from_numpy(np.stack([rng.choice(others[c], NEGATIVES, replace=False) for c in y.tolist()]))

    def side(own: Tensor, bank: Tensor, z: Tensor, listed: Tensor) -> Tensor:
        rows = bank.index_select(0, listed.flatten()).view(*listed.shape, -1)
        scores = (torch.bmm(rows, own.unsqueeze(2)).squeeze(2) / p.nce_t).exp()
        if not z:
            z.copy_(scores.detach().mean() * IMAGES)
        return crd_nce(scores / z, IMAGES)

    def term(embedding_s: Tensor, embedding_t: Tensor, index: Tensor) -> Tensor:
        listed = torch.cat([index[:, None], draw(index % CLASSES).to(index.device)], 1)
        own_s, own_t = (
            torch.nn.functional.normalize(h(e)) for h, e in ((method.head_s, embedding_s), (method.head_t, embedding_t))
        )
        total = side(own_s, method.bank_t, method.z_s, listed) + side(own_t, method.bank_s, method.z_t, listed)
        method._remember(method.bank_s, index, own_s)
        method._remember(method.bank_t, index, own_t)
        return p.beta * total

    return term, draw


def child(variant: str, steps: int, device: str) -> dict[str, float]:
    """Run one variant; return milliseconds of a step and of the drawing in it (medians), the first loss, the peak memory."""
    method, cuda = made(device), device.startswith("cuda")
    term, draw = {"dense": dense, "gather": gather}[variant](method, torch.Generator(device).manual_seed(0))
    source = torch.Generator().manual_seed(1)
    embedding_s, embedding_t = (torch.randn(BATCH, WIDTH, generator=source).to(device) for _ in range(2))
    before, took, drew, first, load = peak_mib(cuda), [], [], 0.0, ForeignLoad().start()
    for _ in range(steps + 2):
        index = torch.randint(IMAGES, (BATCH,), generator=source).to(device)
        embedding_s.requires_grad_(True)
        began = now(cuda)
        loss = term(embedding_s, embedding_t, index)
        loss.backward()
        took.append(now(cuda) - began)
        first = first or loss.item() / method.params.beta
        began = now(cuda)
        draw(index % CLASSES)
        drew.append(now(cuda) - began)
    return {"step_ms": 1000 * median(took[2:]), "draw_ms": 1000 * median(drew[2:]), "first": first,
            "mib": peak_mib(cuda) - before, "foreign": load.share()}  # fmt: skip


def now(cuda: bool) -> float:
    """Return the time, after the device has done all it was asked."""
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_mib(cuda: bool) -> float:
    """Return the peak memory so far: of the GPU, or resident of this process."""
    return torch.cuda.max_memory_allocated() / 2**20 if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Alternate the variants and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="times that each variant runs, in turn")
    parser.add_argument("--steps", type=int, default=8, help="steps of each, after two to warm up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(child(asked.child, asked.steps, asked.device)))
        return
    found: dict[str, list[dict[str, float]]] = {v: [] for v in VARIANTS}
    for _ in range(asked.pairs):
        for variant in VARIANTS:
            words = [sys.executable, __file__, "--child", variant, "--steps", str(asked.steps), "--device", asked.device]
            done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT, env=dict(os.environ))
            found[variant].append(json.loads(done.stdout))
    rows = []
    for variant, title in VARIANTS.items():
        runs = found[variant]
        ratio = median(g["step_ms"] / d["step_ms"] for g, d in zip(found["gather"], runs, strict=True))
        rows.append([title, spread([r["step_ms"] for r in runs]), spread([r["draw_ms"] for r in runs]), f"{ratio:.1f}",
                     f"{median(r['mib'] for r in runs):.0f}", f"{median(r['first'] for r in runs):.2f}",
                     f"{100 * max(r['foreign'] for r in runs):.1f} %"])  # fmt: skip
    print(machine())
    print(table(["way", "ms a step", "of it drawing", "x faster", "peak MiB", "first loss", "foreign load, worst"], rows))
    print(f"n = {asked.pairs}")


if __name__ == "__main__":
    main()
