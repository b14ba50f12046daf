"""The training loop: one readable story that yields events and knows no method by name.

Reads: datasets, weights of teachers. Writes: checkpoint, best weights and results in its own run folder.
Never: the event log (the worker appends what is yielded), other runs' folders, Streamlit, DuckDB.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kdengine import checkpoint, devices, generations, networks, results
from kdengine.assembly import Parts, assemble
from kdengine.data.augment import Loader
from kdengine.errors import KdError, Problem, RunFailed
from kdengine.evaluate import collect, cross_entropy, measures_on_test, topk_frac
from kdengine.events import EpochEnded, Measures, NetworkInfo, Notice, Started
from kdengine.home import Home
from kdengine.methods.contract import Batch, Progress
from kdengine.networks import NetworkView
from kdengine.rundir import RunDir
from kdengine.schedule import Stage, learning_rate, plan
from kdengine.spec import RunSpec
from kdengine.versions import versions

EVAL_BATCH = 256
SPACE_TRIES, SPACE_WAIT_S = 600, 1.0  # how long a full disk is waited for at the end
EXPLODED = 1e4  # times the first epoch's value of the same term


class Stopped(Exception):
    """Raised between two steps when the run shall stop."""


@dataclass(slots=True)
class Setting:
    """Where and how a run trains: its home and folder, its spec, and two lines to the worker.

    ``stop()`` is asked between steps; ``report`` takes a dict of plain numbers at most once a second.
    """

    home: Home
    run: RunDir
    spec: RunSpec
    teacher_run: str | None = None
    attempt: int = 1
    stop: Callable[[], bool] = lambda: False
    report: Callable[[dict[str, Any]], None] = lambda _: None


def train(setting: Setting) -> Iterator[Started | Notice | EpochEnded]:
    """Train one run, from the beginning or from its checkpoint, and yield what happens.

    Raises:
        Stopped: ``setting.stop`` said so; what is complete is on disk.
        RunFailed: a loss is not finite or explodes, memory runs out, a file cannot be used.
    """
    try:
        yield from _story(setting)
    except (RuntimeError, MemoryError) as error:
        if devices.is_out_of_memory(error):
            raise devices.out_of_memory(setting.spec.batch_size, setting.spec.device) from error
        raise


def _story(setting: Setting) -> Iterator[Started | Notice | EpochEnded]:
    training = Training(setting)
    yield training.started()
    yield from training.gather_generations()
    yield from training.restore()
    for stage in training.stages[training.stage :]:
        training.begin(stage)
        while training.epoch < stage.epochs:
            event = training.one_epoch(stage)
            yield from training.save(event)
            yield event
        training.end_stage()
    yield from training.keep_results()


@dataclass(slots=True)
class Tally:
    """Sums over an epoch, on the device: nothing here waits for the GPU until ``means`` is asked."""

    keys: list[str] = field(default_factory=list)
    terms: Tensor | None = None
    right: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0
    images: int = 0

    def add(self, terms: dict[str, Tensor], views: dict[str, NetworkView], y: Tensor) -> None:
        """Count one step: its terms, and how many images each trained network got right."""
        values = torch.stack([t.detach().float() for t in terms.values()])
        self.keys = list(terms)
        self.terms = values if self.terms is None else self.terms + values
        for name, view in views.items():
            hits = (view.outputs.logits.detach().argmax(dim=1) == y).sum()
            self.right[name] = self.right[name] + hits if name in self.right else hits
        self.steps += 1
        self.images += len(y)

    def means(self) -> dict[str, dict[str, float]]:
        """Return network -> term -> mean over the steps."""
        by_network: dict[str, dict[str, float]] = {}
        for key, total in zip(self.keys, self.terms.tolist() if self.terms is not None else [], strict=True):
            network, _, term = key.rpartition("/")
            by_network.setdefault(network or "student", {})[term] = total / self.steps
        return by_network


class Training:
    """The state of one training: networks, optimiser, generators, position; everything that a checkpoint holds."""

    def __init__(self, setting: Setting) -> None:
        spec = setting.spec
        self.setting, self.spec = setting, spec
        self._reported = 0.0
        self.device = devices.pick_device(spec.device)
        self.precision = devices.pick_precision(spec, self.device)
        devices.tune(self.device)
        self.parts: Parts = assemble(setting.home, spec, setting.teacher_run, self.device, self.precision, self._fetching)
        self.stages: list[Stage] = plan(spec, [m.method for m in self.parts.methods])
        torch.manual_seed(networks.derive_seed(spec.seed, "global"))
        self.order = torch.Generator().manual_seed(networks.derive_seed(spec.seed, "order"))
        self.draws = torch.Generator(self.device).manual_seed(networks.derive_seed(spec.seed, "draws"))
        data = self.parts.data
        self.loader = Loader(data.train, spec.batch_size, mean=data.mean, std=data.std, crop_pad=spec.crop_pad,
                             crop_mode=spec.crop_mode, flip=spec.flip and data.flippable, generator=self.order,
                             device=self.device, channels_last=True)  # fmt: skip
        self.optimizer: torch.optim.Optimizer | None = None
        self.stage = 0
        self.epoch = 0
        self.images_seen = 0
        self.elapsed_before = 0.0
        self.began = time.monotonic()
        self.best: dict[str, float] = {}
        self.first_terms: dict[str, float] = {}
        self._optimizer_state: dict[str, Any] | None = None
        self.logits_t: Tensor | None = None
        if self.parts.teacher is not None and not self.parts.teacher_trains:
            with self.autocast():
                self.logits_t = collect(self.parts.teacher, data.test, data, EVAL_BATCH, self.device)
        self.ensemble: generations.Ensemble | None = None

    def autocast(self) -> torch.autocast:
        """Return the context in which networks and methods compute."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def started(self) -> Started:
        """Return the event that describes this attempt."""
        parts, data = self.parts, self.parts.data
        views = dict(parts.students) | ({"teacher": parts.teacher} if parts.teacher else {})
        top1 = None if self.logits_t is None else topk_frac(self.logits_t, data.test.y.cpu(), 1)
        return Started(
            attempt=self.setting.attempt, device=str(self.device), device_name=devices.device_name(self.device),
            precision=self.precision, threads=torch.get_num_threads(), cpu_capability=torch.backends.cpu.get_cpu_capability(),
            versions=versions(), teacher_run=self.spec.teacher_run or self.setting.teacher_run, teacher_top1_frac=top1,
            networks=[_network_info(name, view) for name, view in views.items()],
            train_images=len(data.train.y), val_images=0 if data.val is None else len(data.val.y), test_images=len(data.test.y),
            classes=data.classes, epochs=self.spec.epochs, phases=[s.phase.name for s in self.stages],
        )  # fmt: skip

    def gather_generations(self) -> Iterator[Notice]:
        """Measure the earlier generations of a chain, for their ensemble; what is gone of them is said, not fatal."""
        setting, data = self.setting, self.parts.data
        try:
            self.ensemble = generations.ensemble(setting.home, self.spec, setting.teacher_run, data, self.device, self.autocast)
        except KdError as error:
            yield Notice(text=f"No ensemble of the generations: {error}")

    # -- one epoch --------------------------------------------------------------------------------------------------

    def begin(self, stage: Stage) -> None:
        """Make the optimiser over all that the stage trains, and put every module into the mode it needs."""
        spec, trained = self.spec, self.parts.trained_by(stage)
        self.parts.set_modes(stage)
        parameters = [p for module in trained for p in module.parameters()]
        fused = self.device.type in ("cpu", "cuda")
        if spec.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(parameters, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay,
                                             nesterov=spec.nesterov and spec.momentum > 0, fused=fused)  # fmt: skip
        else:
            kind = torch.optim.Adam if spec.optimizer == "adam" else torch.optim.AdamW
            self.optimizer = kind(
                parameters, lr=spec.lr, betas=(spec.momentum, 0.999), weight_decay=spec.weight_decay, fused=fused
            )
        if self._optimizer_state is not None:
            self.optimizer.load_state_dict(self._optimizer_state)
            self._optimizer_state = None

    def one_epoch(self, stage: Stage) -> EpochEnded:
        """Train for one epoch, measure, and return the event that tells of it."""
        devices.reset_peak(self.device)
        tally, began, rate = Tally(), time.monotonic(), 0.0
        for step, (x, y, index) in enumerate(self.loader):
            views = (self.loader.again(index),) if self.parts.wants(stage, "views") else ()
            rate = self._step(stage, step, Batch(x, y, index, views), tally)
            self._heartbeat(stage, step, began)
        terms = tally.means()
        epoch_s = time.monotonic() - began
        self.epoch += 1
        self.images_seen += tally.images
        self._check_terms(stage, terms)
        measures = self._measure(tally, terms) if stage.is_main else {}
        return EpochEnded(
            phase=stage.phase.name, epoch=self.epoch, epochs=stage.epochs, images_seen=self.images_seen,
            elapsed_s=self.elapsed_before + time.monotonic() - self.began, epoch_s=epoch_s, images_per_s=tally.images / epoch_s,
            lr=rate, peak_mib=devices.peak_mib(self.device), measures=measures, terms=terms,
        )  # fmt: skip

    def _step(self, stage: Stage, step: int, batch: Batch, tally: Tally) -> float:
        """Do one optimiser step. Static shapes; nothing here makes the host wait for the device."""
        if self.setting.stop():
            raise Stopped
        assert self.optimizer is not None
        rate = learning_rate(self.spec, stage, self.epoch, step, len(self.loader))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        progress = Progress(stage.phase.name, self.epoch, stage.epochs, step, len(self.loader), self.draws)
        if self.parts.wants(stage, "input_gradients"):
            batch.x.requires_grad_()
        with self.autocast():
            self.parts.run_networks(stage, batch.x)
            terms = self.parts.terms(stage, batch, progress)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        self.optimizer.step()
        tally.add(terms, self.parts.learners(stage), batch.y)
        self.parts.forget()
        return rate

    def _heartbeat(self, stage: Stage, step: int, began: float) -> None:
        """Say where the training is, from what the host knows."""
        speed = (step + 1) * self.spec.batch_size / max(1e-9, time.monotonic() - began)
        self._report(stage.phase.name, self.epoch + 1, stage.epochs, step + 1, len(self.loader), images_per_s=round(speed, 1))

    def _fetching(self, done: int, total: int) -> None:
        """Say how far the download or first decoding of the dataset is."""
        self._report("data", 0, 0, done, total)

    def _report(self, phase: str, epoch: int, epochs: int, step: int, steps: int, **more: float) -> None:
        """Pass progress on, at most once a second."""
        now = time.monotonic()
        if now - self._reported >= 1.0:
            self._reported = now
            self.setting.report({"phase": phase, "epoch": epoch, "epochs": epochs, "step": step, "steps": steps} | more)

    def _check_terms(self, stage: Stage, terms: dict[str, dict[str, float]]) -> None:
        """Refuse to go on with a loss that is not finite or explodes, naming epoch, term and value."""
        for network, values in terms.items():
            for term, value in values.items():
                first = self.first_terms.setdefault(f"{stage.phase.name}/{network}/{term}", abs(value))
                if math.isfinite(value) and abs(value) <= EXPLODED * max(1.0, first):
                    continue
                where = f"{term} of {network} = {value:g} in epoch {self.epoch} of phase {stage.phase.name}"
                limit = f"a finite loss, at most {EXPLODED:g} times that of the first epoch"
                advice = f"retry with a lower learning rate (now {self.spec.lr:g}) or smaller weights of the method's terms"
                raise RunFailed(Problem("loss", where, limit, advice))

    def _measure(self, tally: Tally, terms: dict[str, dict[str, float]]) -> dict[str, Measures]:
        """Run every learning network over the test (and validation) images."""
        data, measures = self.parts.data, {}
        logits_t = self.logits_t
        if self.parts.teacher_trains and self.parts.teacher is not None:
            logits_t = self._logits(self.parts.teacher)
        for name, view in self.parts.learners(self.stages[-1]).items():
            logits = self._logits(view)
            found = measures_on_test(logits, data.test.y.cpu(), None if name == "teacher" else logits_t)
            more: dict[str, float | None] = {
                "train_loss": sum(terms.get(name, {}).values()),
                "train_top1_frac": int(tally.right[name]) / max(1, tally.images),
            }
            if data.val is not None:
                logits_v = self._logits(view, on_val=True)
                more |= {
                    "val_loss": cross_entropy(logits_v, data.val.y.cpu()),
                    "val_top1_frac": topk_frac(logits_v, data.val.y.cpu(), 1),
                }
            measures[name] = found.model_copy(update=more)
            if name == "student" and self.ensemble is not None:
                measures[generations.NAME] = self.ensemble.measures(logits, data.test.y.cpu(), logits_t)
        return measures

    def _logits(self, view: NetworkView, on_val: bool = False) -> Tensor:
        data = self.parts.data
        images = data.val if on_val and data.val is not None else data.test
        with networks.evaluating(view.network), self.autocast():
            return collect(view, images, data, EVAL_BATCH, self.device)

    # -- what lasts -------------------------------------------------------------------------------------------------

    def end_stage(self) -> None:
        """Go on to the next stage."""
        self.stage += 1
        self.epoch = 0

    def save(self, event: EpochEnded) -> Iterator[Notice]:
        """Write the best weights and the checkpoint, which holds ``event``; a full disk is said, not fatal."""
        try:
            for name, view in self.parts.learners(self.stages[-1]).items():
                measures = event.measures.get(name, Measures())
                score = measures.val_top1_frac if measures.val_top1_frac is not None else measures.test_top1_frac
                if score is not None and score > self.best.get(name, -1.0):
                    networks.save_weights(view.network, self.setting.run.best_weights(name))
                    self.best[name] = score
            checkpoint.save(self._state(event), self.setting.run.last_pt)
        except OSError as error:
            yield Notice(text=f"{error}. Training goes on; a resume would start from an earlier epoch. Free some space.")

    def keep_results(self) -> Iterator[Notice]:
        """Write what the run leaves for later pages. On a full disk wait for space; at last finish without it."""
        with_teacher = not (self.setting.teacher_run or self.spec.teacher_run)
        predictions, features = results.make(self.parts, self.autocast, self.device, with_teacher)
        for tries in range(SPACE_TRIES):
            try:
                results.write(self.setting.run, predictions, features)
                return
            except OSError as error:
                if tries == 0:
                    yield Notice(text=f"Predictions and features not written: {error}. Waiting for space.")
            if self.setting.stop():
                raise Stopped
            time.sleep(SPACE_WAIT_S)
        yield Notice(text="Finished without predictions and features: there was no space for them.")

    def _state(self, event: EpochEnded) -> dict[str, Any]:
        assert self.optimizer is not None
        return {
            "identity": self.spec.identity(), "stage": self.stage, "epoch": self.epoch, "images_seen": self.images_seen,
            "elapsed_s": event.elapsed_s, "best": self.best, "first_terms": self.first_terms,
            "event": event.model_dump_json(), "modules": {n: m.state_dict() for n, m in self.parts.modules().items()},
            "optimizer": self.optimizer.state_dict(), "order": self.order.get_state(), "draws": self.draws.get_state(),
            "random": checkpoint.random_state(), "threads": torch.get_num_threads(), "device": str(self.device),
            "precision": self.precision, "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        }  # fmt: skip

    def restore(self) -> Iterator[Notice | EpochEnded]:
        """Take up the checkpoint, if there is one; yields its event when the log lacks it, and what cannot be exact.

        Raises:
            RunFailed: the checkpoint cannot be read or belongs to another spec.
        """
        state = checkpoint.load(self.setting.run.last_pt)
        if state is None:
            return
        if state["identity"] != self.spec.identity():
            raise RunFailed(Problem("checkpoint", "the checkpoint of another spec", "the run's own", "retry the run"))
        for name, module in self.parts.modules().items():
            module.load_state_dict(state["modules"][name])
        self.stage, self.epoch, self.images_seen = state["stage"], state["epoch"], state["images_seen"]
        self.elapsed_before, self.best, self.first_terms = state["elapsed_s"], state["best"], state["first_terms"]
        self._optimizer_state = state["optimizer"]
        if self.epoch >= self.stages[self.stage].epochs:
            self._optimizer_state = None
            self.end_stage()
        self.order.set_state(state["order"])
        torch.set_num_threads(state["threads"])
        event = EpochEnded.model_validate_json(state["event"])
        logged = self._logged()
        yield from checkpoint.missing(event, logged)
        if (event.phase, event.epoch) not in logged:
            yield event
        yield from self._exactness(state)
        checkpoint.set_random_state(state["random"])

    def _exactness(self, state: dict[str, Any]) -> Iterator[Notice]:
        """Put the device's generator back, and say what differs from the machine that wrote the checkpoint."""
        if state["device"].split(":")[0] == self.device.type:
            self.draws.set_state(state["draws"])
        here = {
            "device": self.device.type,
            "precision": self.precision,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        }
        then = {
            "device": state["device"].split(":")[0],
            "precision": state["precision"],
            "cpu_capability": state["cpu_capability"],
        }
        changed = [f"{k} {then[k]} -> {here[k]}" for k in here if here[k] != then[k]]
        if changed:
            yield Notice(
                text="Resumed on different hardware (" + ", ".join(changed) + "): the curve is not bit-exact from here on."
            )

    def _logged(self) -> set[tuple[str, int]]:
        events = self.setting.run.read_events()[0]
        return {(e.phase, e.epoch) for e in events if isinstance(e, EpochEnded)}


def _network_info(name: str, view: NetworkView) -> NetworkInfo:
    return NetworkInfo(network=name, model=view.info.model, params=view.info.params, macs=view.info.macs)
