"""The paper's six functions: its flags, what they mean here, faults told all at once, runs followed like any other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kdengine
from kdengine import classic, classic_flags, runner, terminal
from kdengine.errors import RunFailed, SpecError
from kdengine.home import Home
from kdengine.rundir import RunDir, run_dirs
from kdengine.spec import RunSpec

ROOT = Path(runner.__file__).parents[1]
# the usage lines of the paper's figures 1 to 6; read from its scan: -num_class of figure 3 is --num_class, --Ir is --lr
USAGE = {
    "train_kd": """[-h] [--save_root SAVE_ROOT] [--img_root IMG_ROOT] --s_init S_INIT --t_model T_MODEL [--print_freq PRINT_FREQ]
        [--epochs EPOCHS] [--batch_size BATCH_SIZE] [--lr LR] [--momentum MOMENTUM] [--weight_decay WEIGHT_DECAY]
        [--num_class NUM_CLASS] [--cuda CUDA] [--seed SEED] [--note NOTE] --data_name DATA_NAME --t_name T_NAME --s_name S_NAME
        --kd_mode KD_MODE [--lambda_kd LAMBDA_KD] [--T T] [--p P] [--w_dist W_DIST] [--w_angle W_ANGLE] [--m M] [--gamma GAMMA]
        [--P_order P_ORDER] [--w_irg_vert W_IRG_VERT] [--w_irg_edge W_IRG_EDGE] [--w_irg_tran W_IRG_TRAN] [--sf SF]
        [--init_var INIT_VAR] [--att_f ATT_F]""",
    "train_base": """[-h] [--save_root SAVE_ROOT] [--img_root IMG_ROOT] [--print_freq PRINT_FREQ] [--epochs EPOCHS]
        [--batch_size BATCH_SIZE] [--lr LR] [--momentum MOMENTUM] [--weight_decay WEIGHT_DECAY] [--num_class NUM_CLASS]
        [--cuda CUDA] [--seed SEED] [--note NOTE] --data_name DATA_NAME --net_name NET_NAME""",
    "train_bss": """[-h] [--save_root SAVE_ROOT] [--img_root IMG_ROOT] [--s_init S_INIT] [--t_model T_MODEL]
        [--print_freq PRINT_FREQ] [--epochs EPOCHS] [--batch_size BATCH_SIZE] [--lr LR] [--momentum MOMENTUM]
        [--weight_decay WEIGHT_DECAY] [--num_class NUM_CLASS] [--cuda CUDA] [--seed SEED] [--note NOTE] [--data_name DATA_NAME]
        --t_name T_NAME --s_name S_NAME [--lambda_kd LAMBDA_KD] [--T T] [--attack_size ATTACK_SIZE]""",
    "train_crd": """[-h] [--save_root SAVE_ROOT] [--img_root IMG_ROOT] --s_init S_INIT --t_model T_MODEL [--print_freq PRINT_FREQ]
        [--epochs EPOCHS] [--batch_size BATCH_SIZE] [--lr LR] [--momentum MOMENTUM] [--weight_decay WEIGHT_DECAY]
        [--num_class NUM_CLASS] [--cuda CUDA] [--seed SEED] [--note NOTE] --data_name DATA_NAME --t_name T_NAME --s_name S_NAME
        [--lambda_kd LAMBDA_KD] [--feat_dim FEAT_DIM] [--nce_n NCE_N] [--nce_t NCE_T] [--nce_mom NCE_MOM]
        [--mode {exact,relax}]""",
    "train_dml": """[-h] [--save_root SAVE_ROOT] [--img_root IMG_ROOT] --net1_init NET1_INIT --net2_init NET2_INIT
        [--print_freq PRINT_FREQ] [--epochs EPOCHS] [--batch_size BATCH_SIZE] [--lr LR] [--momentum MOMENTUM]
        [--weight_decay WEIGHT_DECAY] [--num_class NUM_CLASS] [--cuda CUDA] [--seed SEED] [--note NOTE] --data_name DATA_NAME
        --net1_name NET1_NAME --net2_name NET2_NAME [--lambda_kd LAMBDA_KD]""",
    "train_ft": """[-h] [--save_root SAVE_ROOT] [--img_root IMG_ROOT] --s_init S_INIT --t_model T_MODEL [--print_freq PRINT_FREQ]
        [--epochs EPOCHS] [--batch_size BATCH_SIZE] [--lr LR] [--momentum MOMENTUM] [--weight_decay WEIGHT_DECAY]
        [--num_class NUM_CLASS] [--cuda CUDA] [--seed SEED] [--note NOTE] --data_name DATA_NAME --t_name T_NAME --s_name S_NAME
        [--lambda_kd LAMBDA_KD] [--k K]""",
}
# defaults of the library behind the paper; those of save_root, img_root and num_class mean something else here
DEFAULTS = {"print_freq": 50, "epochs": 200, "batch_size": 128, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "cuda": 1,
            "seed": 2, "note": "try"}  # fmt: skip
OWN_DEFAULTS = {
    "train_kd": {"lambda_kd": 1.0, "T": 4.0, "p": 2.0, "w_dist": 25.0, "w_angle": 50.0, "m": 2.0, "gamma": 0.4, "P_order": 2,
                 "w_irg_vert": 0.1, "w_irg_edge": 5.0, "w_irg_tran": 5.0, "sf": 1.0, "init_var": 5.0, "att_f": 1.0},
    "train_base": {},
    "train_bss": {"lambda_kd": 2.0, "T": 3.0, "attack_size": 32},
    "train_crd": {"lambda_kd": 0.2, "feat_dim": 128, "nce_n": 16384, "nce_t": 0.1, "nce_mom": 0.5, "mode": "exact"},
    "train_dml": {"lambda_kd": 1.0},
    "train_ft": {"lambda_kd": 200.0, "k": 0.5},
}  # fmt: skip
PAIR = {"data_name": "cifar10", "t_name": "resnet110", "s_name": "resnet20"}
NEEDED = {
    "train_kd": PAIR | {"kd_mode": "st"},
    "train_base": {"data_name": "cifar10", "net_name": "resnet20"},
    "train_bss": PAIR,
    "train_crd": PAIR,
    "train_dml": {"data_name": "cifar10", "net1_name": "resnet110", "net2_name": "resnet20"},
    "train_ft": PAIR,
}


class Launched(Exception):
    """Ends a function in the place of a training; holds the spec that would have been trained."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec


@pytest.fixture
def asked(home: Home, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what a function asks for: ``asked("train_kd", flag=value, ...)`` -> the spec."""

    def launch(home: Home, spec: RunSpec) -> str:
        raise Launched(spec)

    def ask(function: str, **flags: Any) -> RunSpec:
        monkeypatch.setattr(runner, "launch", launch)
        with pytest.raises(Launched) as found:
            getattr(kdengine, function)(**(NEEDED[function] | flags))
        return found.value.spec

    return ask


def script(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["test.py", *words])


# -- flags ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", USAGE)
def test_the_flags_are_those_of_the_figure(function: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    script(monkeypatch, "--epochs", "x", "-h")
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as left:
        getattr(kdengine, function)()
    shown = capsys.readouterr().out.split("Flags of")[0]
    assert left.value.code == 0 and shown.split() == ["usage:", "test.py", *USAGE[function].split()]


@pytest.mark.parametrize("function", USAGE)
def test_the_defaults_are_those_of_the_library(function: str) -> None:
    found = {flag.name: flag.default for flag in classic_flags.FLAGS[function]}
    assert {name: found.get(name) for name in DEFAULTS} == DEFAULTS
    own = OWN_DEFAULTS[function]
    assert {name: found[name] for name in own} == own
    rest = found.keys() - DEFAULTS.keys() - own.keys()
    assert {name: found[name] for name in rest if found[name] is not None} == (
        {"data_name": "cifar10"} if function == "train_bss" else {}
    )


@pytest.mark.parametrize("function", USAGE)
def test_every_flag_is_taken_from_the_command_line_and_as_keyword(function: str) -> None:
    flags = classic_flags.FLAGS[function]
    values = {flag.name: flag.choices[-1] if flag.choices else {str: "word", int: 7, float: 0.25}[flag.kind] for flag in flags}
    words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    for given in (
        classic_flags.from_command_line(function, words),
        classic_flags.from_command_line(function, [f"--{name}={value}" for name, value in values.items()]),
        classic_flags.from_keywords(function, values),
    ):
        assert given.values == values and given.problems == () and given.named == frozenset(values)


def test_every_fault_is_told_at_once_and_nothing_starts(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(terminal.err, "width", 200)
    words = "--lamda_kd 3 --lambda 4 -num_class 10 stray --data_name digit --t_name resnet20 --s_name resnet9 --kd_mode soft"
    script(monkeypatch, *words.split(), "--lr", "abc", "--epochs", "0", "--T", "--s_init", "")
    with pytest.raises(SystemExit) as left:
        kdengine.train_kd()
    shown = capsys.readouterr()
    said = " ".join(shown.err.split())
    assert left.value.code == 2 and shown.out == "" and run_dirs(home) == []
    advice_on = {
        "--lamda_kd": "did you mean --lambda_kd?",
        "--lambda": "did you mean --lambda_kd?",
        "-num_class": "did you mean --num_class?",
        "problem": "write the name of the flag before its value",
        "--t_model": 'add --t_model ""',
        "--lr": "write for example --lr 0.1",
        "--T": "add --T T",
        "--kd_mode": "did you mean 'st'?",
        "--epochs": "greater than or equal to 1",
        "--s_name": "did you mean 'resnet8'?",
        "--data_name": "did you mean 'digits'?",
    }
    for field, advice in advice_on.items():
        assert re.search(rf"(^|\W){field} given .*?{re.escape(advice)}", said), (field, said)
    assert said.count(" given ") == said.count(" allowed ") == said.count(" next ") == len(advice_on)


def test_keywords_refuse_the_same(home: Home) -> None:
    with pytest.raises(SpecError) as refused:
        kdengine.train_kd(**PAIR, kd_mode="st", lamda_kd=3, epochs=2.5, lr="fast", seed=True, num_class=100)
    assert {p.field for p in refused.value.problems} == {"lamda_kd", "epochs", "lr", "seed", "num_class"}
    assert "did you mean lambda_kd?" in str(refused.value) and "10, the classes of cifar10" in str(refused.value)
    with pytest.raises(SpecError) as refused:
        kdengine.train_crd(data_name="cifar10", t_name="resnet20", mode="exactly", T=4)
    assert {p.field for p in refused.value.problems} == {"s_name", "mode", "T"}
    assert run_dirs(home) == []


def test_files_of_weights_are_required_as_in_the_figures_on_the_command_line_alone(asked: Any) -> None:
    for function in ("train_kd", "train_crd", "train_ft", "train_dml"):
        words = [word for name, value in NEEDED[function].items() for word in (f"--{name}", value)]
        assert len(classic_flags.from_command_line(function, words).problems) == 2
        assert asked(function).student_init is None
    assert asked("train_bss").dataset == "cifar10"


# -- what they mean ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "method", "flags", "params"),
    [
        ("logits", "logits", {}, {"lambda_kd": 0.3, "lambda_ce": 1.0}),
        ("st", "kd", {"T": 5}, {"lambda_kd": 0.3, "lambda_ce": 1.0, "T": 5.0}),
        ("at", "at", {"p": 3}, {"beta": 0.3, "p": 3.0, "stages": "mean"}),
        ("fitnet", "fitnet", {}, {"beta": 0.3, "form": "joint", "regressor": "none", "stage": 0}),
        ("nst", "nst", {}, {"beta": 0.3, "stages": "last"}),
        ("pkt", "pkt", {}, {"beta": 0.3, "eps": 1e-6}),
        ("fsp", "fsp", {}, {"beta": 0.3, "stages": "mean", "init_epochs": 50}),
        ("rkd", "rkd", {"w_dist": 20, "w_angle": 40}, {"beta": 0.3, "w_dist": 20.0, "w_angle": 40.0}),
        ("ab", "ab", {"m": 1.5}, {"beta": 0.3, "form": "mean", "margin": 1.5, "init_epochs": 50}),
        ("sp", "sp", {}, {"beta": 0.3, "stages": "mean"}),
        ("sobolev", "sobolev", {}, {"beta": 0.3}),
        ("cc", "cc", {"gamma": 0.5, "P_order": 3}, {"beta": 0.3, "form": "kernel", "gamma": 0.5, "P_order": 3}),
        ("lwm", "lwm", {}, {"beta": 0.3, "form": "gradient"}),
        ("irg", "irg", {"w_irg_vert": 0.2, "w_irg_edge": 4, "w_irg_tran": 6},
         {"beta": 0.3, "w_vert": 0.2, "w_edge": 4.0, "w_tran": 6.0}),
        ("vid", "vid", {"sf": 0.5, "init_var": 4}, {"beta": 0.3, "stages": "mean", "sf": 0.5, "init_var": 4.0, "eps": 1e-6}),
        ("ofd", "ofd", {}, {"beta": 0.3, "form": "mean"}),
        ("afd", "afds", {"att_f": 0.5}, {"beta": 0.3, "att_f": 0.5, "stages": "mean"}),
    ],
)  # fmt: skip
def test_every_mode_has_the_setting_of_the_library(asked: Any, mode: str, method: str, flags: Any, params: Any) -> None:
    spec = asked("train_kd", kd_mode=mode, lambda_kd=0.3, **flags)
    assert spec.method == method and {name: spec.params[name] for name in params} == params
    assert (spec.recipe, spec.dataset, spec.teacher, spec.student) == ("paper", "cifar10", "resnet110", "resnet20")
    assert spec.combine is None and spec.note == "" and spec.tags == ()


def test_there_is_a_setting_for_every_mode_that_the_help_names() -> None:
    named = next(flag.help for flag in classic_flags.FLAGS["train_kd"] if flag.name == "kd_mode")
    assert re.split(", | or ", named) == list(classic.MODES) and classic.SETTINGS.keys() == USAGE.keys() - {"train_kd"}


@pytest.mark.parametrize(
    ("function", "flags", "method", "params"),
    [
        ("train_crd", {"lambda_kd": 0.8, "mode": "relax", "nce_n": 500, "nce_t": 0.07, "nce_mom": 0.9, "feat_dim": 64}, "crd",
         {"beta": 0.8, "mode": "relax", "nce_n": 500, "nce_t": 0.07, "nce_mom": 0.9, "feat_dim": 64}),
        ("train_bss", {"lambda_kd": 3, "T": 2, "attack_size": 16}, "bss",
         {"form": "zoo", "lambda_kd": 3.0, "T": 2.0, "attack_size": 16}),
        ("train_ft", {"k": 0.25}, "ft",
         {"beta": 200.0, "k": 0.25, "form": "factor", "batchnorm": True, "paraphraser_epochs": 30}),
        ("train_ft", {"data_name": "cifar100"}, "ft", {"batchnorm": False}),
        ("train_dml", {"lambda_kd": 2}, "dml", {"lambda_kd": 2.0}),
        ("train_base", {}, "base", {}),
    ],
)  # fmt: skip
def test_the_other_functions_have_the_setting_of_the_library(
    asked: Any, function: str, flags: Any, method: str, params: Any
) -> None:
    spec = asked(function, **flags)
    assert spec.method == method and {name: spec.params[name] for name in params} == params and spec.recipe == "paper"
    if function == "train_dml":
        assert (spec.student, spec.peers, spec.teacher) == ("resnet110", ("resnet20",), None)


def test_the_recipe_is_the_papers_but_for_the_flags(asked: Any) -> None:
    plain = asked("train_base")
    assert (plain.epochs, plain.batch_size, plain.lr, plain.milestones, plain.seed) == (200, 128, 0.1, (0.5, 0.75), 2)
    own = asked("train_base", epochs=10, batch_size=64, lr=0.05, momentum=0, weight_decay=0, seed=5, cuda=0, note="base-c10")
    assert (own.epochs, own.batch_size, own.lr, own.momentum, own.weight_decay, own.seed) == (10, 64, 0.05, 0, 0, 5)
    assert (own.recipe, own.device, own.note, own.tags) == ("paper+", "cpu", "base-c10", ("base-c10",))
    assert plain.device == "auto" and asked("train_base", note="two words").tags == ()


def test_a_teacher_that_is_not_given_is_the_run_of_train_base(asked: Any) -> None:
    taught = asked("train_kd", epochs=3, seed=4, t_model="").teacher_spec()
    assert taught is not None
    assert taught.identity() == asked("train_base", net_name="resnet110", epochs=3, seed=4, note="x").identity()


def test_what_has_no_effect_is_said(asked: Any, tmp_path: Path, capsys: Any) -> None:
    asked("train_kd", T=3, p=2, data_name="digits", img_root=str(tmp_path))
    said = capsys.readouterr().err
    assert "--p: without effect in kd_mode st" in said and "img_root: without effect, digits" in said and "--T" not in said
    asked("train_kd", img_root=str(tmp_path))
    assert f"no unpacked cifar10 in {tmp_path}; it is downloaded" in " ".join(capsys.readouterr().err.split())
    asked("train_crd", nce_n=100)
    assert "crd keeps" in capsys.readouterr().err


def test_weights_come_from_files_or_runs(asked: Any, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.pth.tar").write_bytes(b"x")
    spec = asked("train_kd", s_init="net.pth.tar", t_model=Path("net.pth.tar"))
    assert spec.student_init == spec.teacher_weights == str(tmp_path / "net.pth.tar") and spec.teacher_run is None
    spec = asked("train_dml", net2_init="net.pth.tar", net1_init="")
    assert (spec.student_init, spec.peer_inits) == (None, (str(tmp_path / "net.pth.tar"),))
    for function, flag in (("train_kd", "s_init"), ("train_kd", "t_model"), ("train_dml", "net2_init")):
        with pytest.raises(SpecError, match=rf"{flag}: given gone\.pth.*a run id, a checkpoint of ours, a state dict"):
            getattr(kdengine, function)(**NEEDED[function], **{flag: "gone.pth"})


# -- runs ----------------------------------------------------------------------------------------------------------------

SMALL = {"data_name": "digits", "epochs": 2, "batch_size": 64}


@pytest.mark.usefixtures("fake_worker")
def test_runs_are_followed_to_their_end(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    base = kdengine.train_base(**SMALL, net_name="resnet14", seed=1)
    assert str(base) == base.run_id and base.folder == home.runs / base.run_id
    assert (base.best_top1_frac, base.last_top1_frac) == (0.9, 0.9)
    words = "--data_name digits --epochs 2 --batch_size 64 --seed 1 --t_name resnet14 --s_name resnet8 --kd_mode st --t_model"
    script(monkeypatch, *words.split(), "", "--s_init", "")
    taught = kdengine.train_kd()
    assert RunDir(taught.folder).read_request().teacher_run == base.run_id, "the chain finds the run of train_base"
    shown = capsys.readouterr()
    assert f"KD_HOME {home.root}" in shown.err and "kd resnet8 seed 1: epoch 2/2" in shown.err
    assert f"finished: {taught.run_id}, test top-1: best 90.0 %, last 90.0 %" in shown.out
    RunDir(base.folder).best_weights("student").write_bytes(b"x")
    pinned = kdengine.train_kd(
        **SMALL, t_name="resnet14", s_name="resnet14", kd_mode="st", t_model=base.run_id, s_init=base.run_id[-6:]
    )
    spec = RunDir(pinned.folder).read_request().spec
    assert spec.teacher_run == base.run_id and spec.student_init == str(RunDir(base.folder).best_weights("student"))
    assert len(run_dirs(home)) == 3


@pytest.mark.usefixtures("fake_worker")
def test_a_run_that_fails_is_an_error(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    note = '{"fail": "the loss is not finite"}'
    with pytest.raises(RunFailed, match="failed: the loss is not finite"):
        kdengine.train_base(**SMALL, net_name="resnet8", note=note)
    script(monkeypatch, "--data_name", "digits", "--net_name", "resnet8", "--note", note)
    with pytest.raises(SystemExit) as left:
        kdengine.train_base()
    assert left.value.code == 1 and "the loss is not finite" in capsys.readouterr().err
    assert len(run_dirs(home)) == 2


def test_a_folder_for_copies_that_cannot_be_made_is_told_first(home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SpecError, match="save_root: .*a folder that you may write"):
        kdengine.train_base(**SMALL, net_name="resnet8", save_root=tmp_path / "file")


def test_print_freq_counts_steps(home: Home) -> None:
    run = RunDir.create(home, RunSpec(epochs=2))
    watched, said = terminal.Watched(run, terminal.view(run, home), "base resnet8 seed 0"), []
    for epoch, step in ((1, 3), (1, 5), (1, 9), (1, 23), (2, 4), (2, 10)):
        watched.now = terminal.RunView(run.run_id, terminal.RunStatus.RUNNING, None, None, None,
                                       terminal_progress("main", epoch, step), 1)  # fmt: skip
        said.append(watched._step_line(5))
    assert [line.partition("  ")[2].split(" images")[0] for line in said] == [
        "", "step 5/40  7", "", "step 23/40  7", "", "step 10/40  7",
    ]  # fmt: skip
    watched.now = terminal.RunView(run.run_id, terminal.RunStatus.RUNNING, None, None, None, terminal_progress("data", 0, 9), 1)
    assert watched._step_line(5) == "" and watched._step_line(0) == ""


def terminal_progress(phase: str, epoch: int, step: int) -> Any:
    from kdengine.rundir import Progress

    return Progress(phase, epoch, 2 if epoch else 0, step, 40, "now", 7.0)


def test_importing_a_function_is_light(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import kdengine; from kdengine import train_kd; kdengine.train_crd"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "kdengine.classic" in loaded and not loaded & {"torch", "pandas", "duckdb", "numpy"}
    with pytest.raises(AttributeError, match="train_nothing"):
        kdengine.train_nothing
