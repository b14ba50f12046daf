"""How good a network is: pure functions over logits ``(N, K)`` and labels ``(N,)``, and the pass that collects the logits.

Reads / writes: nothing. Never: a method; the training data's augmentation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from kdengine.data.augment import evaluation_batches
from kdengine.data.contract import Dataset, Images
from kdengine.events import Measures
from kdengine.models.contract import Outputs

ECE_BINS = 15


def topk_frac(logits: Tensor, labels: Tensor, k: int) -> float | None:
    """Return the share of rows whose label is among the ``k`` largest logits; None when there are fewer than ``k`` classes."""
    if logits.shape[1] < k:
        return None
    return (logits.topk(k, dim=1).indices == labels[:, None]).any(dim=1).double().mean().item()


def ece_frac(logits: Tensor, labels: Tensor, bins: int = ECE_BINS) -> float:
    """Return the expected calibration error in [0, 1]: mean gap of confidence and accuracy over equal-width bins.

    Bins are open below and closed above, weighted by their share of rows (Guo et al. 2017, eq. 3; 15 bins).
    """
    confidence, said = logits.double().softmax(dim=1).max(dim=1)
    right = (said == labels).double()
    which = torch.bucketize(confidence, torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=logits.device)[1:-1])
    gap = torch.zeros(bins, dtype=torch.float64, device=logits.device).index_add_(0, which, confidence - right)
    return (gap.abs().sum() / len(labels)).item()


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Return the mean negative log-likelihood in nats."""
    return F.cross_entropy(logits.double(), labels).item()


def agreement_frac(logits_s: Tensor, logits_t: Tensor) -> float:
    """Return the share of rows for which both say the same class."""
    return (logits_s.argmax(dim=1) == logits_t.argmax(dim=1)).double().mean().item()


def kl(logits_s: Tensor, logits_t: Tensor) -> float:
    """Return the mean KL(teacher || student) at temperature 1, in nats."""
    log_s, log_t = logits_s.double().log_softmax(dim=1), logits_t.double().log_softmax(dim=1)
    return F.kl_div(log_s, log_t, reduction="batchmean", log_target=True).item()


def measures_on_test(logits: Tensor, labels: Tensor, logits_t: Tensor | None = None) -> Measures:
    """Return everything measured on the test images for one network; ``logits_t`` are the teacher's, if there is one."""
    return Measures(
        test_loss=cross_entropy(logits, labels),
        test_top1_frac=topk_frac(logits, labels, 1),
        test_top5_frac=topk_frac(logits, labels, 5),
        test_ece_frac=ece_frac(logits, labels),
        agreement_frac=None if logits_t is None else agreement_frac(logits, logits_t),
        teacher_kl=None if logits_t is None else kl(logits, logits_t),
    )


@torch.no_grad()
def collect(
    network: Callable[[Tensor], Outputs], images: Images, dataset: Dataset, batch_size: int, device: torch.device
) -> Tensor:
    """Run ``network`` over ``images`` in order, without augmentation; return its logits ``(N, K)`` fp32 on the CPU."""
    batches = evaluation_batches(images, batch_size, dataset.mean, dataset.std, device, channels_last=True)
    return torch.cat([network(x).logits.float() for x, _ in batches]).cpu()
