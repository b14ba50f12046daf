"""One method on real things: the networks of finished runs look at a few real images, and the method's loss is computed on what
they say, at any knobs. What it weighs, where it pulls the student and what it compares come back as a ``Reading``.

Reads: run folders (weights, the checkpoint for learnt connectors and banks), datasets. Writes: nothing but the decoded cache of
a dataset. Never: a GPU, an optimiser step, a number that was not computed from these networks and images.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from kdengine import checkpoint, methods, networks, teachers
from kdengine import data as datasets
from kdengine.assembly import data_info
from kdengine.data.augment import augment, draw
from kdengine.data.contract import Dataset
from kdengine.errors import KdError, Problem, SpecError
from kdengine.home import Home
from kdengine.methods.contract import Batch, Card, Compared, DataInfo, Entry, Method, Phase, Progress
from kdengine.models.contract import TAPS, Network
from kdengine.networks import NetworkView
from kdengine.rundir import Request, RunDir, find_run
from kdengine.spec import RunSpec, Scalar, problems_of

COUNT = 20  # images: two of each of ten classes, so that relations within and between classes show
COUNT_LARGE, LARGE = 8, 64  # fewer where they are large, in pixels per side
CPU = torch.device("cpu")
PLACES = frozenset({"embedding", "stages", "preacts"})  # where the pull on the student is measured, beside the logits
DRAWS = 1  # seed of the method's own draws: the same at every reading, so that only the knobs make a difference
Group = dict[str, float]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a method says at one setting of its knobs.

    ``terms``: name -> value, weighted as in training; ``total`` their sum. ``pulls``: place in the student (``logits``,
    ``embedding``, ``stage 1``, ...) -> term -> length of the term's gradient there, ``total`` among the terms; empty where the
    phase does not run the student. ``push (B, K)`` by term: minus the gradient by each image's logits, times B; only terms that
    have one. ``follows``: some value depends on how far the training is. ``notices``: what one must know to read the numbers.
    """

    phase: str
    terms: Group
    total: float
    pulls: dict[str, Group]
    push: dict[str, Tensor]
    pictures: tuple[Compared, ...]
    follows: bool
    notices: tuple[str, ...]

    def shares(self, place: str) -> Group:
        """Return each term's share of all terms' gradients at ``place``, 0 to 1, adding up to 1; zeros where none has any."""
        own = {name: value for name, value in self.pulls[place].items() if name != "total"}
        whole = sum(own.values())
        return {name: value / whole if whole else 0.0 for name, value in own.items()}


class _Watched(Progress):
    """A ``Progress`` that notes whether anybody asked how far the training is."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("epoch", "step"):
            object.__setattr__(self, "asked", True)
        return object.__getattribute__(self, name)


@dataclass(slots=True)
class Bench:
    """Networks that have seen their images, ready to be read at any knobs. Made by ``load``.

    ``pixels (B, 3, H, W)`` uint8 and ``batch`` are the images; ``learnt``: state of the method's own parts, where the student
    learnt by this method from this teacher.
    """

    entry: Entry
    request: Request
    data: DataInfo
    class_names: tuple[str, ...]
    pixels: Tensor
    batch: Batch
    student: NetworkView
    teacher: NetworkView | None
    learnt: dict[str, Tensor] | None
    notices: tuple[str, ...] = ()
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)  # pages of several people share a bench

    @property
    def answers(self) -> tuple[Tensor, Tensor | None]:
        """Class probabilities ``(B, K)`` of the student and of the teacher."""
        views = (self.student, self.teacher)
        own, theirs = (None if v is None else v.outputs.logits.detach().softmax(1) for v in views)
        assert own is not None
        return own, theirs


# ---- loading ---------------------------------------------------------------------------------------------------------------


def partner_of(card: Card) -> str | None:
    """Return what stands beside the student: ``teacher``, ``peer``, or None."""
    return "teacher" if card.teacher_mode != "none" else "peer" if card.peers else None


def load(
    home: Home, key: str, student_run: str, partner_run: str | None = None, *, count: int | None = None, seed: int = 0,
    index: Sequence[int] | None = None,
) -> Bench:  # fmt: skip
    """Load the networks of finished runs, show them images and return them ready to be read.

    Args:
        partner_run: run of the teacher or peer; None: the one that the student learnt with.
        count: number of images, 20 (8 large ones) if None; ``seed``: which; ``index``: exactly these, instead.

    Raises:
        KdError: everything that stands in the way: no such run, weights that are gone, networks for different images.
    """
    entry, run = methods.get(key), find_run(home, student_run)
    request = run.read_request()
    spec = request.spec
    dataset = datasets.load(
        home, spec.dataset, image_size=spec.image_size, train_images=spec.train_images, val_frac=spec.val_frac
    )
    taps = frozenset(entry.card.needs & set(TAPS)) | PLACES
    student = NetworkView(_network(run, "student", dataset.classes).eval(), taps)
    others, own = _others(home, entry.card, run, partner_run, dataset.classes)
    teacher = _teacher(others[0], entry.card, taps) if partner_of(entry.card) == "teacher" else None
    if teacher is None:
        student.peers = {f"peer{i}": NetworkView(network.eval(), taps) for i, network in enumerate(others, 1)}
    pixels, batch, notices = _images(dataset, request, entry.card, count, seed, index)
    for view in (student, *student.peers.values(), *([teacher] if teacher else [])):
        view.run(batch.x)
    learnt = _learnt(run, key) if own else None
    info = data_info(dataset, spec.image_size)
    return Bench(entry, request, info, dataset.class_names, pixels, batch, student, teacher, learnt, notices)


def _others(home: Home, card: Card, run: RunDir, partner_run: str | None, classes: int) -> tuple[list[Network], bool]:
    """Return the networks beside the student, and whether they are those that it learnt with."""
    role, request = partner_of(card), run.read_request()
    spec, known = request.spec, request.spec.teacher_run or request.teacher_run
    if role is None:
        return [], True
    if role == "peer" and partner_run is None and spec.peers:
        return [_network(run, f"peer{i}", classes) for i in range(1, len(spec.peers) + 1)], True
    if role == "teacher" and partner_run in (None, known) and (known or spec.teacher_weights):
        return [teachers.load(home, spec, request.teacher_run, classes)], True
    if partner_run is None and known is None:
        raise KdError.of(f"no {role}, and {run.run_id} learnt without one", f"a finished run whose network is the {role}",
                         f"choose a run as the {role}", role)  # fmt: skip
    partner = find_run(home, str(partner_run or known))
    _same_images(spec, partner, role)
    return [_network(partner, "student", classes)], False


def _same_images(own: RunSpec, partner: RunDir, role: str) -> None:
    """Refuse a network that was made for other images, with every difference."""
    other = partner.read_request().spec
    faults = [
        Problem(role, f"{partner.run_id} with {what} {getattr(other, what)}", f"{what} {getattr(own, what)}, the student's",
                f"choose another {role} or another student")
        for what in ("dataset", "image_size")
        if getattr(own, what) != getattr(other, what)
    ]  # fmt: skip
    if faults:
        raise KdError(*faults)


def _network(run: RunDir, name: str, classes: int) -> Network:
    """Return a trained network of a run with its best weights, on the CPU in fp32."""
    spec = run.read_request().spec
    model = spec.student if name == "student" else spec.peers[int(name.removeprefix("peer")) - 1]
    network = networks.build(model, classes, spec.image_size, spec.student_options, 0, spec.bn_momentum)
    networks.load_weights(network, run.best_weights(name), f"weights of {run.run_id}")
    return network


def _teacher(network: Network, card: Card, taps: frozenset[str]) -> NetworkView:
    norms = networks.stage_norms(network)  # before they are folded into the convolutions
    mode = "frozen" if card.teacher_mode == "frozen" else "graph"
    view = NetworkView(teachers.freeze(network, mode, "fp32", CPU).network, taps, no_grad=mode == "frozen")
    view.norms = norms
    return view


def _images(
    dataset: Dataset, request: Request, card: Card, count: int | None, seed: int, index: Sequence[int] | None
) -> tuple[Tensor, Batch, tuple[str, ...]]:
    """Return the images as they are, and as a batch; test images where the method does not remember training images."""
    images = dataset.train if "index" in card.needs else dataset.test
    spec = request.spec
    if index is None:
        chosen = choose(images.y, count or (COUNT if spec.image_size < LARGE else COUNT_LARGE), seed)
    else:
        chosen = torch.tensor(list(index), dtype=torch.int64)
    if len(chosen) < card.min_batch or chosen.min() < 0 or chosen.max() >= len(images):
        raise KdError.of(f"the images {chosen.tolist()}", f"{card.min_batch} or more of 0 to {len(images) - 1}",
                         "choose others", "index")  # fmt: skip
    pixels = images.x[chosen].clone()
    x = datasets.normalise(pixels, dataset.mean, dataset.std).contiguous(memory_format=torch.channels_last)
    batch = Batch(x.requires_grad_("input_gradients" in card.needs), images.y[chosen].clone(), chosen)
    if "views" in card.needs:
        moves = draw(len(chosen), spec.crop_pad, spec.flip and dataset.flippable, torch.Generator().manual_seed(seed))
        other = augment(pixels, *moves, spec.crop_pad, spec.crop_mode)
        batch.views = (datasets.normalise(other, dataset.mean, dataset.std),)
    notice = "These are training images, because this method remembers each of them by its number."
    return pixels, batch, (notice,) if "index" in card.needs else ()


def choose(labels: Tensor, count: int, seed: int) -> Tensor:
    """Return ``count`` indices of ``labels (N,)``, by class: two or more of each class among them, if there are."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    classes = list(dict.fromkeys(labels[order].tolist()))[: max(1, count // 2)]
    ranked = [(rank, i) for c in classes for rank, i in enumerate(order[labels[order] == c][:count].tolist())]
    chosen = [i for _, i in sorted(ranked, key=lambda pair: pair[0])][:count]
    return torch.tensor(sorted(chosen, key=lambda i: int(labels[i])), dtype=torch.int64)


def _learnt(run: RunDir, key: str) -> dict[str, Tensor] | None:
    """Return what the method ``key`` had learnt itself by the last epoch of a run that used it; None where it was not used."""
    spec = run.read_request().spec
    used = [spec.method, *([spec.combine.method] if spec.combine else [])]
    state = checkpoint.load(run.last_pt) if key in used else None
    return None if state is None else state["modules"].get(f"method{used.index(key)}")


# ---- reading ---------------------------------------------------------------------------------------------------------------


def phases(key: str, knobs: Mapping[str, Scalar]) -> tuple[tuple[str, ...], str]:
    """Return the names of the phases at these knobs, and the one to look at first: where student and teacher first meet.

    Raises:
        SpecError: every knob that is out of bounds.
    """
    entry = methods.get(key)
    found = entry.method.phases(_params(entry, knobs))
    meeting = [p.name for p in found if {"student", "teacher"} <= set(p.runs)]
    return tuple(p.name for p in found), (*meeting, found[-1].name)[0]


def read(bench: Bench, knobs: Mapping[str, Scalar], phase: str | None = None, done_frac: float = 0.0) -> Reading:
    """Compute the method on the bench at ``knobs``; what is left out has the method's default.

    ``phase``: None = the one that ``phases`` names; ``done_frac`` in [0, 1): how far that phase is.

    Raises:
        SpecError: every knob that is out of bounds; or every reason why the method cannot work on this pair of networks.
    """
    params = _params(bench.entry, knobs)
    _fit(bench, params)
    chosen = _phase(bench, params, phase or phases(bench.entry.card.key, knobs)[1])
    with bench.lock, torch.enable_grad():
        method, about = _method(bench, params)
        progress = _progress(bench, chosen, done_frac)
        teacher = bench.teacher if "teacher" in chosen.runs else None
        terms = method.loss(bench.student, teacher, bench.batch, progress)
        gradients = _gradients(bench, terms) if "student" in chosen.runs else {}
        again = _progress(bench, chosen, done_frac)  # the same draws as for the terms
        pictures = tuple(_settled(p) for p in method.compared(bench.student, teacher, bench.batch, again))
    values = {name: float(term.detach()) for name, term in terms.items()}
    pulls = {place: _lengths(own) for place, own in gradients.items()}
    push = {name: -g * len(g) for name, g in gradients.get("logits", {}).items() if g is not None}
    early = chosen.name != bench.entry.method.phases(params)[-1].name and "student" in chosen.runs
    later = ("This phase comes before the labels; the networks shown have finished their training.",) if early else ()
    follows = getattr(progress, "asked", False)
    return Reading(chosen.name, values, sum(values.values()), pulls, push, pictures, follows, (*bench.notices, *about, *later))


def _params(entry: Entry, knobs: Mapping[str, Scalar]) -> Any:
    try:
        return entry.params(**knobs)
    except ValidationError as error:
        raise SpecError(*problems_of(error, entry.params)) from None


def _fit(bench: Bench, params: Any) -> None:
    teacher = None if bench.teacher is None else bench.teacher.info
    found = bench.entry.method.problems(params, bench.student.info, teacher)
    if found:
        raise SpecError(*(Problem("method", *parts) for parts in found))


def _phase(bench: Bench, params: Any, name: str) -> Phase:
    known = {p.name: p for p in bench.entry.method.phases(params)}
    if name not in known:
        raise SpecError.of(f"{name!r}", ", ".join(known), "choose one of them, or other knobs", "phase")
    return known[name]


def _method(bench: Bench, params: Any) -> tuple[Method, tuple[str, ...]]:
    """Build the method as the run did, with what it had learnt where that fits; say which of the two it is."""
    spec = bench.request.spec
    peers = {name: view.info for name, view in bench.student.peers.items()}
    teacher = None if bench.teacher is None else bench.teacher.info
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(networks.derive_seed(spec.seed, "method", 0))
        method = bench.entry.method(params, bench.student.info, teacher, peers, bench.data)
    fresh = method.state_dict()
    shapes = {name: tensor.shape for name, tensor in fresh.items()}
    if bench.learnt is not None and shapes == {name: tensor.shape for name, tensor in bench.learnt.items()}:
        method.load_state_dict(bench.learnt)
        method.eval()
        learns = any(True for _ in method.parameters())
        return method, ("What the method learns itself is shown as it was after the run's last epoch.",) if learns else ()
    if not list(method.parameters()):
        return method, ()
    why = "these knobs change its shape" if bench.learnt is not None else "this student did not learn by it from this teacher"
    return method, (f"What the method learns itself (such as connectors) is freshly drawn: {why}. Training would fit it first.",)


def _progress(bench: Bench, phase: Phase, done_frac: float) -> _Watched:
    spec = bench.request.spec
    epochs, steps = phase.epochs or spec.epochs, max(1, bench.data.train_images // spec.batch_size)
    at = min(max(done_frac, 0.0), 1.0) * epochs
    epoch = min(int(at), epochs - 1)
    step = min(int((at - epoch) * steps), steps - 1)
    return _Watched(phase.name, epoch, epochs, step, steps, torch.Generator().manual_seed(DRAWS))


def _gradients(bench: Bench, terms: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor | None]]:
    """Return place -> term -> gradient of the term there, None where it has none.

    A stage's map is taken before its last activation, so that methods which look there and those which look behind it count.
    """
    out = bench.student.outputs
    assert out.embedding is not None and out.preacts is not None
    places = {"logits": out.logits, "embedding": out.embedding}
    places |= {f"stage {i}": x for i, x in enumerate(out.preacts, 1)}
    found: dict[str, dict[str, Tensor | None]] = {place: {} for place in places}
    for name, term in terms.items():
        by = (None,) * len(places)
        if term.requires_grad:
            by = torch.autograd.grad(term, list(places.values()), retain_graph=True, allow_unused=True)
        for place, gradient in zip(places, by, strict=True):
            found[place][name] = None if gradient is None else gradient.detach()
    return found


def _lengths(by_term: Mapping[str, Tensor | None]) -> Group:
    own = {name: 0.0 if g is None else float(torch.linalg.vector_norm(g)) for name, g in by_term.items()}
    whole = [g for g in by_term.values() if g is not None]
    return own | {"total": float(torch.linalg.vector_norm(torch.stack(whole).sum(0))) if whole else 0.0}


# ---- pictures --------------------------------------------------------------------------------------------------------------


def _settled(picture: Compared) -> Compared:
    """Return the picture without its graph, in fp32, points brought to two dimensions."""
    own, theirs = (None if x is None else x.detach().float() for x in (picture.student, picture.teacher))
    picture = replace(picture, student=own, teacher=theirs)
    return _flat(picture) if picture.kind == "points" else picture


def _flat(picture: Compared) -> Compared:
    """Draw points ``(n, D)`` in the two directions in which they spread most; say how much of the spread that is.

    Where both sides live in one space the directions are common. Else each side has its own, and the student's are turned
    (and mirrored) so that its points lie as near to the teacher's as they can: distances stay as they are.
    """
    given = [x for x in (picture.student, picture.teacher) if x is not None]
    if picture.joint and len(given) == 2:
        both, share = _principal(torch.cat(given))
        flat, shares = list(both.split(len(given[0]))), [share, share]
    else:
        flat, shares = [list(side) for side in zip(*(_principal(x) for x in given), strict=True)]
        if len(flat) == 2:
            u, _, v = torch.linalg.svd(flat[0].T @ flat[1])
            flat[0] = flat[0] @ (u @ v)
    names = iter(zip(flat, shares, strict=True))
    found: dict[str, Any] = {}
    sides = list(picture.sides)
    for place, side in enumerate(("student", "teacher")):
        if getattr(picture, side) is not None:
            found[side], share = next(names)
            sides[place] = f"{sides[place]} ({100 * share:.0f} % of the spread in view)"
    return replace(picture, **found, sides=(sides[0], sides[1]))


def _principal(points: Tensor) -> tuple[Tensor, float]:
    """Return ``(n, 2)``: points in their two principal directions, the farthest on the positive side; and their share, 0 to 1."""
    centred = points - points.mean(0)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    flat = torch.zeros(len(points), 2)
    kept = min(2, len(s))
    flat[:, :kept] = u[:, :kept] * s[:kept]
    signs = flat.gather(0, flat.abs().argmax(0, keepdim=True)).sign()
    whole = float(s.square().sum())
    return flat * torch.where(signs == 0, 1.0, signs), float(s[:2].square().sum()) / whole if whole else 1.0
