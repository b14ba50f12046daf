"""The flags of the source paper's figures 1 to 6: read from the command line or from keywords, all faults at once.

Names, which of them are required, and defaults are those of the paper and of the library behind it (Knowledge-Distillation-Zoo).
Reads: the words it is given. Writes: nothing. Never: a method, a network, torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from kdengine.errors import Problem, SpecError, nearest

WEIGHTS = 'run id, a checkpoint of ours or a state dict; "" = none'


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. ``required``: as its figure has it; ``choices``: the only texts it takes."""

    name: str
    kind: type[str] | type[int] | type[float]
    default: Any
    help: str
    required: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Given:
    """What was asked for: every flag with its value, those that were given, and what was wrong with them."""

    values: dict[str, Any]
    named: frozenset[str]
    problems: tuple[Problem, ...]


def _needed(name: str, help: str) -> Flag:
    return Flag(name, str, None, help, required=True)


def _usage(files: Sequence[Flag], networks: Sequence[Flag], own: Sequence[Flag], data_name: Flag) -> tuple[Flag, ...]:
    return (
        Flag("save_root", str, None, "folder that gets copies of the weights and the log, under NOTE; the run lives in KD_HOME"),
        Flag("img_root", str, None, "folder where the unpacked dataset lies already; else it is downloaded into KD_HOME"),
        *files,
        Flag("print_freq", int, 50, "steps between two lines on the progress, where it is no terminal"),
        Flag("epochs", int, 200, "passes over the training images"),
        Flag("batch_size", int, 128, "images per step"),
        Flag("lr", float, 0.1, "learning rate at the start; x0.1 after 1/2 and 3/4 of the epochs"),
        Flag("momentum", float, 0.9, "momentum (Nesterov)"),
        Flag("weight_decay", float, 1e-4, "pull of all weights towards zero"),
        Flag("num_class", int, None, "number of classes, compared with the dataset's; left out: the dataset's"),
        Flag("cuda", int, 1, "0: CPU; 1: a GPU where there is one"),
        Flag("seed", int, 2, "decides the initial weights, the order of images and every draw"),
        Flag("note", str, "try", "free text, and a tag of the run"),
        data_name,
        *networks,
        *own,
    )  # fmt: skip


_DATA = _needed("data_name", "dataset")
_INIT = _needed("s_init", f"initial weights of the student: {WEIGHTS}: drawn from SEED")
_MODEL = _needed("t_model", f"weights of the teacher: {WEIGHTS}: it is trained first")
_PAIR = (_needed("t_name", "network that teaches"), _needed("s_name", "network that learns"))


def _weight(default: float) -> Flag:
    return Flag("lambda_kd", float, default, "weight of the distillation; labels have weight 1")


FLAGS: dict[str, tuple[Flag, ...]] = {
    "train_kd": _usage((_INIT, _MODEL), _PAIR, (
        _needed("kd_mode", "logits, st, at, fitnet, nst, pkt, fsp, rkd, ab, sp, sobolev, cc, lwm, irg, vid, ofd or afd"),
        _weight(1.0),
        Flag("T", float, 4.0, "st: temperature"),
        Flag("p", float, 2.0, "at: power"),
        Flag("w_dist", float, 25.0, "rkd: weight of the distances"),
        Flag("w_angle", float, 50.0, "rkd: weight of the angles"),
        Flag("m", float, 2.0, "ab: margin"),
        Flag("gamma", float, 0.4, "cc: width of the kernel"),
        Flag("P_order", int, 2, "cc: order of the kernel's Taylor series"),
        Flag("w_irg_vert", float, 0.1, "irg: weight of the vertices"),
        Flag("w_irg_edge", float, 5.0, "irg: weight of the edges"),
        Flag("w_irg_tran", float, 5.0, "irg: weight of the transformation"),
        Flag("sf", float, 1.0, "vid: channels inside as a multiple of the teacher's"),
        Flag("init_var", float, 5.0, "vid: variance at the start"),
        Flag("att_f", float, 1.0, "afd: channels of the attention as a share of the teacher's"),
    ), _DATA),
    "train_base": _usage((), (_needed("net_name", "network to train"),), (), _DATA),
    "train_bss": _usage(
        (Flag("s_init", str, None, _INIT.help), Flag("t_model", str, None, _MODEL.help)), _PAIR,
        (_weight(2.0), Flag("T", float, 3.0, "temperature"), Flag("attack_size", int, 32, "images moved to the boundary")),
        Flag("data_name", str, "cifar10", _DATA.help),
    ),
    "train_crd": _usage((_INIT, _MODEL), _PAIR, (
        _weight(0.2),
        Flag("feat_dim", int, 128, "length of the compared embeddings"),
        Flag("nce_n", int, 16384, "negatives for each image"),
        Flag("nce_t", float, 0.1, "temperature of the scores"),
        Flag("nce_mom", float, 0.5, "how much of its old entry the bank keeps"),
        Flag("mode", str, "exact", "positive: the image itself, or any of its class", choices=("exact", "relax")),
    ), _DATA),
    "train_dml": _usage(
        (_needed("net1_init", f"initial weights of the first network: {WEIGHTS}"),
         _needed("net2_init", f"initial weights of the second network: {WEIGHTS}")),
        (_needed("net1_name", "first network"), _needed("net2_name", "second network")), (_weight(1.0),), _DATA,
    ),
    "train_ft": _usage((_INIT, _MODEL), _PAIR, (
        _weight(200.0), Flag("k", float, 0.5, "channels of the factors as a share of the teacher's"),
    ), _DATA),
}  # fmt: skip
FILES = ("s_init", "t_model", "net1_init", "net2_init")
_MISSING = object()


def from_command_line(function: str, words: Sequence[str]) -> Given:
    """Return what the command line asks of ``function``; ``-h`` shows the usage and leaves."""
    if {"-h", "--help"} & set(words):
        _parser(function, as_printed=True).parse_args(["-h"])
    known, rest = _parser(function, as_printed=False).parse_known_args(words)
    texts = {name: text for name, text in vars(known).items() if text is not None}
    return _given(function, texts, "--", [*_unknown(function, rest)])


def from_keywords(function: str, keywords: Mapping[str, Any]) -> Given:
    """Return what keywords ask of ``function``. Files of weights may be left out here: that is ``""``."""
    names = [flag.name for flag in FLAGS[function]]
    problems = [_not_known(name, names, "") for name in keywords if name not in names]
    values = dict.fromkeys((name for name in FILES if name in names), "")
    return _given(function, values | {name: value for name, value in keywords.items() if name in names}, "", problems)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SpecError.of(message, "the flags that -h lists", "look at the usage with -h")


def _parser(function: str, as_printed: bool) -> argparse.ArgumentParser:
    """Return the usage as the figure prints it, or one that leaves every fault to us, so that all are told at once."""
    parser = _Parser(description=f"Flags of {function}().", allow_abbrev=False, add_help=as_printed)
    for flag in FLAGS[function]:
        default = "" if flag.default is None else f" (default {flag.default})"
        parser.add_argument(
            f"--{flag.name}", help=(flag.help + default).replace("%", "%%"), default=None,
            metavar="{" + ",".join(flag.choices) + "}" if flag.choices else flag.name.upper(),
            **({"required": flag.required} if as_printed else {"nargs": "?", "const": _MISSING}),
        )  # fmt: skip
    return parser


def _unknown(function: str, rest: Sequence[str]) -> list[Problem]:
    """Explain what no flag was found for; the value behind an unknown flag is not a fault of its own."""
    names = [f"--{flag.name}" for flag in FLAGS[function]]
    problems, of_a_flag = [], False
    for word in rest:
        if word.startswith("-"):
            problems.append(_not_known(word.partition("=")[0], names, ""))
        elif not of_a_flag:
            problems.append(Problem("", word, "--NAME VALUE", "write the name of the flag before its value"))
        of_a_flag = word.startswith("-") and "=" not in word
    return problems


def _not_known(name: str, names: Sequence[str], prefix: str) -> Problem:
    close = nearest(name, names)
    return Problem(prefix + name, name, ", ".join(names), f"did you mean {close}?" if close else "leave it out, or see -h")


def _given(function: str, texts: Mapping[str, Any], prefix: str, problems: list[Problem]) -> Given:
    values: dict[str, Any] = {}
    for flag in FLAGS[function]:
        values[flag.name] = flag.default
        if flag.name not in texts:
            if flag.required:
                problems.append(_required(flag, prefix, "nothing"))
            continue
        try:
            values[flag.name] = _value(flag, texts[flag.name])
        except (TypeError, ValueError):
            problems.append(_wrong(flag, prefix, texts[flag.name]))
    return Given(values, frozenset(texts), tuple(problems))


def _value(flag: Flag, text: Any) -> Any:
    """Return ``text`` as the flag's kind; a whole number may stand for a fraction, nothing else changes its kind."""
    if text is _MISSING or isinstance(text, bool) or not isinstance(text, str | Path | int | float):
        raise TypeError
    if flag.kind is str:
        if isinstance(text, int | float) or (flag.choices and text not in flag.choices):
            raise ValueError
        return str(text)
    if flag.kind is int and isinstance(text, float):
        raise ValueError
    return flag.kind(str(text))


def _required(flag: Flag, prefix: str, given: str) -> Problem:
    example = ' ""' if flag.name in FILES else f" {flag.name.upper()}"
    return Problem(prefix + flag.name, given, flag.help, f"add {prefix}{flag.name}{example}")


def _wrong(flag: Flag, prefix: str, text: Any) -> Problem:
    if text is _MISSING:
        return _required(flag, prefix, "no value")
    kinds = {str: "text", int: "a whole number", float: "a number"}
    allowed = " or ".join(flag.choices) if flag.choices else kinds[flag.kind]
    example = flag.choices[0] if flag.choices else flag.default if flag.default is not None else "one"
    return Problem(prefix + flag.name, repr(text), f"{allowed} ({flag.help})", f"write for example {prefix}{flag.name} {example}")
