"""Networks ready to run: built from a seed, on their device, in their precision, seen through a ``NetworkView``.

Reads: weight files, through ``weights``. Writes: weight files that it is given a name for. Never: pickles.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdengine import models, weights
from kdengine.durable import write_aside
from kdengine.models.contract import NetInfo, Network, Outputs
from kdengine.spec import Scalar


def derive_seed(seed: int, *names: object) -> int:
    """Return a 63-bit seed for one purpose, so that no two purposes share their random numbers."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def build(model: str, classes: int, image_size: int, options: Mapping[str, Scalar], seed: int, bn_momentum: float) -> Network:
    """Return a fresh network in channels_last whose weights depend on ``seed`` alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = models.build(model, classes, image_size, dict(options))
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = bn_momentum
    return network.to(memory_format=torch.channels_last)


def save_weights(network: nn.Module, file: Path) -> None:
    """Write the weights aside and rename; safetensors wants plain strides."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    write_aside(file, safetensors.torch.save(tensors))


def load_weights(network: nn.Module, file: Path, what: str) -> None:
    """Load ``file`` into ``network``; what may be in it, and under which names, says ``weights``.

    Raises:
        RunFailed: no such file, not a weight file, or the weights of another network; names the first that do not fit.
    """
    network.load_state_dict(weights.fitted(network.state_dict(), weights.read(file, what), file, what))


def stage_norms(network: Network) -> tuple[tuple[Tensor, Tensor], ...]:
    """Return copies of weight and bias ``(C,)`` of the BatchNorm before each stage's last activation."""
    return tuple((n.weight.detach().clone(), n.bias.detach().clone()) for n in network.stage_norms())


def fold(network: Network) -> None:
    """Merge every BatchNorm behind a convolution into it, in place. For frozen networks in eval mode only."""
    for conv_name, norm_name in network.foldable():
        conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
        network.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        network.set_submodule(norm_name, nn.Identity())


class NetworkView:
    """A network as methods see it: callable, with the outputs of this step, its peers, and its numbers.

    Args:
        taps: what to return besides the logits.
        no_grad: run without autograd (frozen teacher).
        half: weights are bf16 themselves, so images are cast instead of autocasting (frozen teacher in bf16).
    """

    def __init__(self, network: Network, taps: frozenset[str], *, no_grad: bool = False, half: bool = False) -> None:
        self.network = network
        self.info: NetInfo = network.info
        self.norms: tuple[tuple[Tensor, Tensor], ...] = ()
        self.peers: dict[str, NetworkView] = {}
        self._taps, self._no_grad, self.half = taps, no_grad, half
        self._outputs: Outputs | None = None

    @property
    def outputs(self) -> Outputs:
        """What ``run`` computed for this step's images."""
        if self._outputs is None:
            raise RuntimeError("this phase does not run this network: name it in Phase.runs")
        return self._outputs

    def __call__(self, x: Tensor) -> Outputs:
        """Run the network on images ``x (B, C, H, W)``."""
        with torch.no_grad() if self._no_grad else contextlib.nullcontext():
            outputs: Outputs = self.network(x.bfloat16() if self.half else x, self._taps)
        return outputs

    def run(self, x: Tensor) -> None:
        """Run the network on this step's images and keep the outputs."""
        self._outputs = self(x)

    def forget(self) -> None:
        """Let go of the outputs, and of the graph behind them."""
        self._outputs = None


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put the network into eval mode for a while."""
    was = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was)
