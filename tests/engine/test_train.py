"""The loop, with every method there is: what it yields, what it leaves, how it stops, how it goes on."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import safetensors.torch
import torch

from kdengine import checkpoint, methods, results
from kdengine import train as module
from kdengine.errors import RunFailed
from kdengine.events import EpochEnded, Notice, Started
from kdengine.train import Stopped, Training, train

METHODS = sorted(methods.entries())
QUICK = ("base", "kd", "dml")  # one of each kind: alone, taught, with peers; the others are slow only by their number


def epochs_of(events):
    return [e for e in events if isinstance(e, EpochEnded)]


def curve(events):
    """What must be the same whenever the same thing is trained: no times, no memory."""
    return [(e.phase, e.epoch, e.images_seen, e.lr, e.measures, e.terms) for e in epochs_of(events)]


def moments(events):
    """After how many epochs to stop: after the first and the last one of every phase."""
    phases = [e.phase for e in epochs_of(events)]
    places = [(phases.index(p) + 1, len(phases) - phases[::-1].index(p)) for p in set(phases)]
    return sorted({place for pair in places for place in pair})


@pytest.mark.parametrize("method", [pytest.param(m, marks=[] if m in QUICK else pytest.mark.slow) for m in METHODS])
def test_every_method_trains_to_the_end(small, method):
    setting = small(method=method)
    events = list(train(setting))
    assert isinstance(events[0], Started)
    main = [e for e in epochs_of(events) if e.phase == "main"]
    assert [e.epoch for e in main] == [1, 2] and main[-1].epochs == 2
    assert main[-1].images_seen == sum(e.epochs for e in epochs_of(events) if e.epoch == 1) * 128
    for event in epochs_of(events):
        assert event.terms and all(math.isfinite(v) for terms in event.terms.values() for v in terms.values())
    for measures in main[-1].measures.values():
        assert 0 <= measures.test_top1_frac <= measures.test_top5_frac <= 1
        assert measures.train_loss is not None and measures.test_loss > 0 and 0 <= measures.test_ece_frac <= 1
    networks = {n.network for n in events[0].networks}
    assert set(main[-1].measures) == networks - {"teacher"}
    assert ("teacher" in networks) == (methods.get(method).card.teacher_mode != "none")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_what_a_finished_run_leaves_can_be_read_without_torch(small, method):
    setting = small(method=method, epochs=1)
    started, *_ = list(train(setting))
    predictions, features = np.load(setting.run.predictions_npz), np.load(setting.run.features_npz)
    names = {n.network for n in started.networks}
    assert {k.removeprefix("logits_") for k in predictions.files if k != "labels"} == names
    assert predictions["labels"].shape == (started.test_images,)
    assert predictions["logits_student"].shape == (started.test_images, 10) and predictions["logits_student"].dtype == np.float16
    for name in names:
        assert features[f"embedding_{name}"].shape == (512, 64)
        assert features[f"stage1_{name}"].shape == (512, 16, 8, 8)
        assert features[f"attention1_{name}"].shape == (512, 16, 16)
    for name in names - {"teacher"}:
        assert safetensors.torch.load_file(setting.run.best_weights(name))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_seed_decides_everything(small, method):
    first, again, other = (list(train(small(method=method, epochs=1, seed=s))) for s in (1, 1, 2))
    assert curve(first) == curve(again)
    assert curve(first) != curve(other)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_run_stopped_after_any_epoch_goes_on_as_if_nothing_had_happened(small, method):
    whole = list(train(small(method=method)))
    for stop_after in moments(whole):
        setting = small(method=method)
        seen = []
        for event in train(setting):
            seen.append(event)
            setting.run.append_event(event)
            if len(epochs_of(seen)) == stop_after:
                break
        rest = list(train(setting))
        assert curve(seen) + curve(rest) == curve(whole)
        assert not [e for e in rest if isinstance(e, Notice)]


def test_what_draws_from_the_global_generator_resumes_too(small, monkeypatch):
    """Dropout and its like know nothing of our generators."""
    kind = methods.get("base").method
    plain = kind.loss
    monkeypatch.setattr(kind, "loss", lambda self, *a: plain(self, *a) | {"noise": torch.rand(()), "own": noise_of(a[-1])})
    whole = list(train(small(method="base")))
    setting = small(method="base")
    for event in train(setting):
        setting.run.append_event(event)
        if isinstance(event, EpochEnded):
            break
    assert curve(list(train(setting))) == curve(whole)[1:]


def noise_of(progress):
    return torch.rand((), generator=progress.generator)


def test_a_run_killed_between_checkpoint_and_event_loses_neither(small):
    whole = list(train(small(method="base")))
    setting = small(method="base")
    for event in train(setting):
        if isinstance(event, EpochEnded):
            break  # its checkpoint is written, the worker has not yet appended the event
    assert curve(list(train(setting))) == curve(whole)


def test_a_run_stopped_within_an_epoch_repeats_that_epoch(small):
    whole = list(train(small(method="kd")))
    setting, seen, steps = small(method="kd"), [], []

    def stop():
        steps.append(1)
        return len(steps) == 7  # in the middle of the second of two epochs with four steps each

    setting.stop = stop
    with pytest.raises(Stopped):
        for event in train(setting):
            seen.append(event)
            setting.run.append_event(event)
    setting.stop = lambda: False
    assert len(epochs_of(seen)) == 1
    assert curve(seen) + curve(list(train(setting))) == curve(whole)


def test_a_method_that_needs_two_views_gets_them(small, monkeypatch):
    setting = small(method="base")
    training = Training(setting)
    part = training.parts.methods[0]
    part.card = dataclasses.replace(part.card, needs=part.card.needs | {"views"})
    seen = []
    monkeypatch.setattr(
        part.method, "loss", lambda s, t, batch, p: seen.append(batch) or type(part.method).loss(part.method, s, t, batch, p)
    )
    training.begin(training.stages[0])
    training.one_epoch(training.stages[0])
    assert len(seen) == 4 and all(len(b.views) == 1 and b.views[0].shape == b.x.shape for b in seen)
    assert not torch.equal(seen[0].views[0], seen[0].x)


def test_the_teachers_weights_never_change_and_it_is_measured_once(small):
    setting = small(method="kd")
    training = Training(setting)
    before = {n: t.clone() for n, t in training.parts.teacher.network.state_dict().items()}
    training.begin(training.stages[0])
    training.one_epoch(training.stages[0])
    assert all(torch.equal(t, before[n]) for n, t in training.parts.teacher.network.state_dict().items())
    assert training.logits_t.shape == (600, 10)
    assert training.started().teacher_top1_frac is not None


def test_a_loss_that_explodes_ends_the_run_with_epoch_term_and_value(small):
    setting = small(method="base", lr=10.0, warmup_frac=0.0, weight_decay=1.0, epochs=30)
    with pytest.raises(RunFailed, match=r"ce of student = \S+ in epoch \d+ of phase main"):
        list(train(setting))


@pytest.mark.parametrize("fault", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), MemoryError()])
def test_running_out_of_memory_says_which_batch_size_to_try(small, monkeypatch, fault):
    setting = small(method="base")

    def full(*_):
        raise fault

    monkeypatch.setattr(Training, "_step", full)
    with pytest.raises(RunFailed, match="batch_size 16"):
        list(train(setting))


def test_a_damaged_checkpoint_is_an_error_in_three_parts(small):
    setting = small(method="base")
    list(train(setting))
    setting.run.last_pt.write_bytes(setting.run.last_pt.read_bytes()[:1000])
    with pytest.raises(RunFailed, match="retry the run"):
        list(train(setting))


def test_a_full_disk_does_not_stop_the_training(small, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    events = list(train(small(method="base")))
    assert len(epochs_of(events)) == 2
    assert [e for e in events if isinstance(e, Notice) and "No space left" in e.text]


def test_a_disk_that_is_full_at_the_end_is_waited_for(small, monkeypatch):
    write, tries = results.write, []

    def full(*args):
        tries.append(1)
        if len(tries) < 3:
            raise OSError(28, "No space left on device")
        write(*args)

    monkeypatch.setattr(results, "write", full)
    monkeypatch.setattr(module, "SPACE_WAIT_S", 0)
    setting = small(method="base", epochs=1)
    notices = [e.text for e in train(setting) if isinstance(e, Notice)]
    assert len(tries) == 3 and len(notices) == 1 and "No space left" in notices[0]
    assert setting.run.predictions_npz.exists() and setting.run.features_npz.exists()


def test_other_hardware_is_said_on_resume(small):
    setting = small(method="base")
    for event in train(setting):
        if isinstance(event, EpochEnded):
            setting.run.append_event(event)
            break
    state = checkpoint.load(setting.run.last_pt)
    checkpoint.save(state | {"cpu_capability": "VSX"}, setting.run.last_pt)
    notices = [e.text for e in train(setting) if isinstance(e, Notice)]
    assert len(notices) == 1 and "not bit-exact" in notices[0] and "VSX" in notices[0]


def test_epochs_that_the_record_has_lost_are_named_on_resume(small):
    setting = small(method="base", epochs=4)
    for event in train(setting):
        if isinstance(event, EpochEnded) and event.epoch == 3:
            break  # its checkpoint is written; of the record only the first word is left
        if not isinstance(event, EpochEnded):
            setting.run.append_event(event)
    events = list(train(setting))
    (notice,) = [e.text for e in events if isinstance(e, Notice)]
    assert "lacks epochs 1, 2 of phase main" in notice and "gap" in notice
    assert [e.epoch for e in epochs_of(events)] == [3, 4]


def test_validation_images_are_held_out_and_choose_the_best(small):
    events = list(train(small(method="base", val_frac=0.1)))
    assert events[0].val_images == 120
    assert all(0 <= e.measures["student"].val_top1_frac <= 1 for e in epochs_of(events))


def test_a_second_method_adds_its_terms_but_not_its_labels(small):
    setting = small(method="kd", combine={"method": "fitnet", "weight": 0.5, "params": {"form": "joint"}})
    single = small(method="fitnet", params={"form": "joint"})
    both, alone = epochs_of(train(setting))[0], epochs_of(train(single))[0]
    assert set(both.terms["student"]) == {"ce", "kd", "fitnet.hint"} and set(alone.terms["student"]) == {"ce", "hint"}


@pytest.mark.slow
def test_bf16_learns_like_fp32(small):
    losses = [epochs_of(train(small(method="kd", precision=p)))[-1].measures["student"].train_loss for p in ("fp32", "bf16")]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.slow
def test_a_quick_student_learns_the_digits(small):
    event = epochs_of(train(small(method="base", train_images=None, epochs=3, image_size=16)))[-1]
    assert event.measures["student"].test_top1_frac > 0.8
