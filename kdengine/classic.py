"""The six training functions of the source paper (Chen et al. 2024), with its flags: ``import kdengine; kdengine.train_kd()``.

Called without arguments, a function reads its flags from the command line; called with keywords, it takes the same names. It
launches a run like any other, which lives in KD_HOME and shows in the app, and follows it. What the flags mean is what
they mean in the library behind the paper, Knowledge-Distillation-Zoo: cross-entropy counts once, terms of several stages are
averaged, and where a method has several forms, that library's. What it counts in epochs of 200 (drops of the learning rate,
warm-up of bss) scales with ``epochs``; students start from SEED, so runs of one seed start alike.

Reads: the command line; run folders; weight files and datasets that it is pointed to. Writes: a run through the runner; with
``save_root`` copies of its weights and log. Never: torch at import.
"""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kdengine import datasets, runner, suites, terminal
from kdengine.classic_flags import FILES, Given, from_command_line, from_keywords
from kdengine.errors import KdError, Problem, RunBusy, RunFailed, SpecError, UnknownKey, unknown
from kdengine.home import Home
from kdengine.rundir import RunDir, find_run
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, RunView
from kdengine.terminal import err, out

RECIPE = "paper"


@dataclass(frozen=True, slots=True)
class Setting:
    """A method of ours: knob -> the flag that sets it, and knobs that the library fixes."""

    method: str
    flags: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)


def _weighted(method: str, flags: dict[str, str] | None = None, **fixed: Any) -> Setting:
    return Setting(method, {"beta": "lambda_kd"} | (flags or {}), fixed)


MODES: dict[str, Setting] = {
    "logits": Setting("logits", {"lambda_kd": "lambda_kd"}, {"lambda_ce": 1.0}),
    "st": Setting("kd", {"lambda_kd": "lambda_kd", "T": "T"}, {"lambda_ce": 1.0}),
    "at": _weighted("at", {"p": "p"}, stages="mean"),
    "fitnet": _weighted("fitnet", form="joint", regressor="none", stage=0),
    "nst": _weighted("nst", stages="last"),
    "pkt": _weighted("pkt", eps=1e-6),
    "fsp": _weighted("fsp", stages="mean", init_epochs=50),
    "rkd": _weighted("rkd", {"w_dist": "w_dist", "w_angle": "w_angle"}),
    "ab": _weighted("ab", {"margin": "m"}, form="mean", init_epochs=50, main="labels"),
    "sp": _weighted("sp", stages="mean"),
    "sobolev": _weighted("sobolev"),
    "cc": _weighted("cc", {"gamma": "gamma", "P_order": "P_order"}, form="kernel"),
    "lwm": _weighted("lwm", form="gradient", from_end=2),
    "irg": _weighted("irg", {"w_vert": "w_irg_vert", "w_edge": "w_irg_edge", "w_tran": "w_irg_tran"}),
    "vid": _weighted("vid", {"sf": "sf", "init_var": "init_var"}, stages="mean", eps=1e-6),
    "ofd": _weighted("ofd", form="mean"),
    "afd": _weighted("afds", {"att_f": "att_f"}, stages="mean"),
}
SETTINGS: dict[str, Setting] = {
    "train_base": Setting("base"),
    "train_ft": _weighted("ft", {"k": "k"}, form="factor", paraphraser_epochs=30),
    "train_dml": Setting("dml", {"lambda_kd": "lambda_kd"}),
    "train_crd": _weighted("crd", {name: name for name in ("feat_dim", "nce_n", "nce_t", "nce_mom", "mode")}),
    "train_bss": Setting("bss", {name: name for name in ("lambda_kd", "T", "attack_size")}, {"form": "zoo"}),
}
# field of the spec -> the flag that fills it as it is
SAME = {name: name for name in ("epochs", "batch_size", "lr", "momentum", "weight_decay", "seed")} | {"dataset": "data_name"}
NETWORKS = {"train_base": {"student": "net_name"}, "train_dml": {"student": "net1_name", "peers.0": "net2_name"}}
TAUGHT = {"student": "s_name", "teacher": "t_name", "teacher_seed": "seed"}  # so a run of train_base serves as the teacher


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run: its name and folder, best and last test accuracy of the student (0 to 1). ``str`` gives the name."""

    run_id: str
    folder: Path
    best_top1_frac: float | None = None
    last_top1_frac: float | None = None

    def __str__(self) -> str:
        return self.run_id


@dataclass(slots=True)
class Wish:
    """The values of a spec, field -> flag for words on faults, the faults so far, and what is worth saying."""

    values: dict[str, Any]
    fields: dict[str, str]
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def train_base(**flags: Any) -> Result:
    """Train one network from the labels alone (figure 2). Its run can be the teacher of the other functions."""
    return _train("train_base", flags)


def train_kd(**flags: Any) -> Result:
    """Train a student with ``kd_mode`` logits, st, at, fitnet, nst, pkt, fsp, rkd, ab, sp, sobolev, cc, lwm, irg, vid, ofd or afd
    (figure 1)."""
    return _train("train_kd", flags)


def train_ft(**flags: Any) -> Result:
    """Train a student by factor transfer (figure 6)."""
    return _train("train_ft", flags)


def train_dml(**flags: Any) -> Result:
    """Train two networks that learn from one another (figure 5)."""
    return _train("train_dml", flags)


def train_crd(**flags: Any) -> Result:
    """Train a student by contrastive representation distillation (figure 4)."""
    return _train("train_crd", flags)


def train_bss(**flags: Any) -> Result:
    """Train a student with adversarial samples that support the decision boundary (figure 3)."""
    return _train("train_bss", flags)


def _train(function: str, flags: dict[str, Any]) -> Result:
    """Train and return the result.

    Raises:
        SystemExit: without keywords, in the place of the following: 2 for a wrong wish, 1 where the run did not finish.
        SpecError: faults of the flags, all at once. RunFailed: the run did not finish.
    """
    if flags:
        return _run(function, from_keywords(function, flags), "")
    try:
        return _run(function, from_command_line(function, sys.argv[1:]), "--")
    except KdError as error:
        terminal.show_problems(error.problems)
        sys.exit(1 if isinstance(error, RunFailed | RunBusy) else 2)
    except KeyboardInterrupt:
        err.print("no longer watching; the training goes on: python -m kdengine status", highlight=False)
        sys.exit(130)


def _run(function: str, given: Given, prefix: str) -> Result:
    home = Home.find()
    err.print(f"[dim]KD_HOME {home.root}[/]", highlight=False, soft_wrap=True)
    wish = _wish(function, given, home)
    spec = _checked(wish, given, home, prefix)
    notes = [*wish.notes, *_adopted(given, spec, home)]
    for note in filter(None, notes):
        err.print(note, markup=False, highlight=False, soft_wrap=True)
    run_id = runner.launch(home, spec)
    (shown,) = terminal.follow(home, [run_id], spec.summary(), every_steps=max(0, given.values["print_freq"]))
    return _ended(function, given, spec, shown, find_run(home, run_id), home)


# -- flags to spec -------------------------------------------------------------------------------------------------------


def _wish(function: str, given: Given, home: Home) -> Wish:
    flags = given.values
    fields = SAME | NETWORKS.get(function, TAUGHT)
    wish = Wish({name: flags[flag] for name, flag in fields.items() if flags[flag] is not None}, dict(fields))
    wish.values |= {"recipe": RECIPE, "device": "cpu" if flags["cuda"] == 0 else "auto"}
    if "peers.0" in wish.values:
        wish.values["peers"] = (wish.values.pop("peers.0"),)
    if "note" in given.named:
        wish.values["note"] = flags["note"]
        wish.values["tags"] = tuple(re.findall(r"^[A-Za-z0-9][\w.:-]{0,63}$", flags["note"], re.ASCII))
    setting = MODES.get(flags["kd_mode"]) if function == "train_kd" else SETTINGS[function]
    if setting is None and flags["kd_mode"] is not None:
        wish.problems.append(unknown("kd_mode", flags["kd_mode"], list(MODES)))
    if setting is not None:
        wish.values |= {"method": setting.method, "params": _params(setting, flags, home)}
        wish.fields |= {"method": "kd_mode"} if function == "train_kd" else {}
        wish.fields |= {f"params.{knob}": flag for knob, flag in setting.flags.items()}
        wish.notes += _unused(function, setting, given)
    _classes(flags, home, wish)
    _make(_target(given), wish)
    for flag in (name for name in FILES if flags.get(name)):
        _weights(flag, flags[flag], home, wish)
    return wish


def _params(setting: Setting, flags: dict[str, Any], home: Home) -> dict[str, Any]:
    params = {knob: flags[flag] for knob, flag in setting.flags.items()} | setting.fixed
    if setting is SETTINGS["train_ft"]:  # the library has BatchNorm there for CIFAR-10 alone
        card = datasets.cards(home).get(flags["data_name"])
        params["batchnorm"] = card is not None and card.classes == 10
    return params


def _unused(function: str, setting: Setting, given: Given) -> list[str]:
    if function != "train_kd":
        return []
    of_modes = {flag for mode in MODES.values() for flag in mode.flags.values()}
    idle = [f"--{flag}" for flag in given.values if flag in of_modes & given.named and flag not in setting.flags.values()]
    return [f"{', '.join(idle)}: without effect in kd_mode {given.values['kd_mode']}"] if idle else []


def _classes(flags: dict[str, Any], home: Home, wish: Wish) -> None:
    known, asked = datasets.cards(home), flags["num_class"]
    if asked is None or flags["data_name"] not in known:
        return
    classes = known[flags["data_name"]].classes
    if asked != classes:
        allowed = f"{classes}, the classes of {flags['data_name']}"
        wish.problems.append(Problem("num_class", str(asked), allowed, f"write {classes}, or leave it out"))


def _target(given: Given) -> Path | None:
    """Return the folder for copies; None without ``save_root``."""
    root = given.values["save_root"]
    return None if root is None else Path(root).expanduser().absolute() / given.values["note"]


def _make(target: Path | None, wish: Wish) -> None:
    """Make the folder for copies now, so that a fault is told before anything starts."""
    try:
        if target is not None:
            target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        given = f"{target} ({error.strerror})"
        wish.problems.append(Problem("save_root", given, "a folder that you may write", "choose another"))


def _weights(flag: str, text: str, home: Home, wish: Wish) -> None:
    """Note where weights come from: a file that is there, else a run."""
    name = {"t_model": "teacher_weights", "net2_init": "peer_inits.0"}.get(flag, "student_init")
    path = Path(text).expanduser().absolute()
    run = None if path.is_file() else _run_named(home, path.name if path.parent == home.runs else text)
    if run is not None and flag == "t_model":
        name = "teacher_run"
    elif run is not None:
        path = run.best_weights("student")
    if run is None and not path.is_file():
        allowed = 'a run id, a checkpoint of ours, a state dict, or "" for none'
        wish.problems.append(Problem(flag, text, allowed, "check the path; `python -m kdengine status --all` lists the runs"))
        return
    wish.fields[name] = flag
    if name == "peer_inits.0":
        wish.values["peer_inits"] = (str(path),)
    else:
        wish.values[name] = run.run_id if run is not None and name == "teacher_run" else str(path)


def _run_named(home: Home, text: str) -> RunDir | None:
    try:
        return find_run(home, text)
    except UnknownKey:
        return None


def _checked(wish: Wish, given: Given, home: Home, prefix: str) -> RunSpec:
    """Return the spec complete.

    Raises:
        SpecError: every fault of flags and spec, each under the name of its flag.
    """
    with err.status("checking"):
        from kdengine.check import complete, memory_bytes

        try:
            spec, found = complete(wish.values, home)
        except SpecError as error:
            spec, found = RunSpec(), list(error.problems)
    told = {p.field.removeprefix("--") for p in given.problems}  # what is missing or unreadable is no second fault
    named = {wish.fields.get(p.field, p.field): p for p in reversed((*wish.problems, *found))}
    own = [(prefix + name if name in given.values else name, p) for name, p in reversed(named.items()) if name not in told]
    problems = [*given.problems, *(replace(p, field=name) for name, p in own)]
    if problems:
        raise SpecError(*problems)
    wish.notes.append(terminal.memory_text(spec.method, memory_bytes(spec, home)))
    return spec


# -- what lies elsewhere -------------------------------------------------------------------------------------------------


def _adopted(given: Given, spec: RunSpec, home: Home) -> list[str]:
    """Take the dataset from ``img_root`` where it lies there and is needed; return what to say of it."""
    root = given.values["img_root"]
    if root is None:
        return []
    card = datasets.get(home, spec.dataset)
    if card.kind != "cifar":
        return [f"img_root: without effect, {spec.dataset} needs no folder from you"]
    if datasets.is_here(home, spec.dataset):
        return [f"img_root: without effect, {spec.dataset} is in KD_HOME already"]
    from kdengine import data

    taken = data.adopt(home, spec.dataset, Path(root).expanduser())
    return [f"img_root: {spec.dataset} copied into KD_HOME" if taken else
            f"img_root: no unpacked {spec.dataset} in {root}; it is downloaded into KD_HOME"]  # fmt: skip


def _ended(function: str, given: Given, spec: RunSpec, shown: RunView, run: RunDir, home: Home) -> Result:
    """Say how it ended, and leave copies where they were asked for.

    Raises:
        RunFailed: the run is not finished.
    """
    if shown.status is not RunStatus.FINISHED:
        out.print(terminal.run_panel(shown, run))
        how = f"run {run.run_id}, {shown.status}" + (f": {shown.reason}" if shown.reason else "")
        raise RunFailed.of(how, "a run that finishes", f"see its log, then: python -m kdengine resume {run.run_id}", "run")
    standings = suites.leaderboard(home, [run.run_id])
    best, last = (standings[0].best_mean_frac, standings[0].last_mean_frac) if standings else (None, None)
    said = f"test top-1: best {terminal.percent(best)} %, last {terminal.percent(last)} %"
    out.print(f"finished: {run.run_id}, {said}", highlight=False, soft_wrap=True)
    if target := _target(given):
        _leave_copies(function, spec, run, target, home)
        out.print(f"copies: {target}", highlight=False, soft_wrap=True)
    return Result(run.run_id, run.path, best, last)


def _leave_copies(function: str, spec: RunSpec, run: RunDir, target: Path, home: Home) -> None:
    """Write what the library writes, under its names: model_best.pth.tar, log.txt, after ``train_base`` the initial weights."""
    from kdengine import networks, weights

    for network in ("student", *(f"peer{i}" for i in range(1, len(spec.peers) + 1))):
        own = "" if network == "student" else f"_net{int(network.removeprefix('peer')) + 1}"
        best = weights.read(run.best_weights(network), network)
        weights.save_for_others(best, target / f"model_best{own}.pth.tar")
    shutil.copyfile(run.log, target / "log.txt")
    if function == "train_base":
        classes = datasets.get(home, spec.dataset).classes
        first = networks.build(spec.student, classes, spec.image_size, spec.student_options,
                               networks.derive_seed(spec.seed, "student", spec.generation), spec.bn_momentum)  # fmt: skip
        weights.save_for_others(first.state_dict(), target / f"initial_r{spec.student.removeprefix('resnet')}.pth.tar")
