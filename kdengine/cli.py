"""The command line, ``python -m kdengine``: launch, watch, stop and list runs; ``cli_catalogue`` adds what there is to train.

Reads: run folders, the catalogues. Writes: the terminal; runs through the runner.
Never: torch at import; it loads inside the commands that need it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from kdengine import (
    __version__,
    cli_catalogue,
    cli_doctor,
    cli_people,
    labels,
    literature,
    replications,
    runner,
    suites,
    terminal,
)
from kdengine.cli_frame import AsJson, Commands, find_home
from kdengine.errors import SpecError
from kdengine.home import Home
from kdengine.rundir import find_run
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, RunView, is_over, view, views
from kdengine.terminal import err, out

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train students by knowledge distillation, one process per run.",
)
WHAT, HOW, TEACHER, LABELS = "What", "How", "Teacher", "Labels"
NoFollow = Annotated[bool, typer.Option("--no-follow", help="Queue and return at once.")]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A knob of the method, or any field of the spec. Repeatable.", rich_help_panel=HOW
    ),
]
RunIds = Annotated[list[str], typer.Argument(metavar="RUN_ID...", help="Names of runs; a unique beginning or end will do.")]
RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="Name of a run; a unique beginning or end will do.")]


def _wish(name: str, panel: str, *more: str) -> Any:
    """Declare an option that fills the spec's field ``name``; its help is the field's own description."""
    said = RunSpec.model_fields[name].description or name
    return typer.Option(*more or (f"--{name.replace('_', '-')}",), help=f"{said[0].upper()}{said[1:]}.", rich_help_panel=panel)


@app.callback(invoke_without_command=True)
def start(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Train students by knowledge distillation, one process per run."""
    if version:
        out.print(__version__, highlight=False)
        raise typer.Exit


@app.command()
def run(
    ctx: typer.Context,
    method: Annotated[str | None, _wish("method", WHAT)] = None,
    dataset: Annotated[str | None, _wish("dataset", WHAT)] = None,
    student: Annotated[str | None, _wish("student", WHAT)] = None,
    teacher: Annotated[str | None, _wish("teacher", WHAT)] = None,
    peers: Annotated[list[str] | None, _wish("peers", WHAT, "--peer")] = None,
    generation: Annotated[int | None, _wish("generation", WHAT)] = None,
    train_images: Annotated[int | None, _wish("train_images", WHAT)] = None,
    image_size: Annotated[int | None, _wish("image_size", WHAT)] = None,
    val_frac: Annotated[float | None, _wish("val_frac", WHAT)] = None,
    epochs: Annotated[int | None, _wish("epochs", HOW)] = None,
    seed: Annotated[int | None, _wish("seed", HOW)] = None,
    recipe: Annotated[str | None, _wish("recipe", HOW)] = None,
    batch_size: Annotated[int | None, _wish("batch_size", HOW)] = None,
    lr: Annotated[float | None, _wish("lr", HOW)] = None,
    precision: Annotated[str | None, _wish("precision", HOW)] = None,
    device: Annotated[str | None, _wish("device", HOW)] = None,
    settings: Setting = None,
    teacher_epochs: Annotated[int | None, _wish("teacher_epochs", TEACHER)] = None,
    teacher_seed: Annotated[int | None, _wish("teacher_seed", TEACHER)] = None,
    teacher_run: Annotated[str | None, _wish("teacher_run", TEACHER)] = None,
    teacher_weights: Annotated[Path | None, _wish("teacher_weights", TEACHER)] = None,
    suite: Annotated[str | None, _wish("suite", LABELS)] = None,
    tags: Annotated[list[str] | None, _wish("tags", LABELS, "--tag")] = None,
    note: Annotated[str | None, _wish("note", LABELS)] = None,
    no_follow: NoFollow = False,
    as_json: AsJson = False,
) -> None:
    """Launch one run and follow it; a missing teacher is trained first. Exits 0 only when the run has finished."""
    home = find_home(as_json)
    values = {k: v for k, v in ctx.params.items() if k in RunSpec.model_fields and v not in (None, [], ())}
    if teacher_weights:
        values["teacher_weights"] = str(teacher_weights.expanduser().absolute())
    values = _with_settings(values, settings or [])
    with err.status("checking"):
        from kdengine.check import complete, memory_bytes

        spec, problems = complete(values, home)
    if problems:
        raise SpecError(*problems)
    if kept := terminal.memory_text(spec.method, memory_bytes(spec, home)):
        err.print(kept)
    _launched(home, [runner.launch(home, spec)], spec.summary(), not no_follow, as_json)


@app.command("suite")
def suite_(
    name: Annotated[str, typer.Argument(help="Name of the suite.")],
    method: Annotated[list[str], typer.Option(help="A method. Repeatable.", rich_help_panel=WHAT)],
    pair: Annotated[
        list[str], typer.Option(metavar="TEACHER:STUDENT", help="Networks; :STUDENT has no teacher.", rich_help_panel=WHAT)
    ],
    seed: Annotated[list[int] | None, typer.Option(help="A seed. Repeatable.", rich_help_panel=HOW)] = None,
    dataset: Annotated[str | None, _wish("dataset", WHAT)] = None,
    train_images: Annotated[int | None, _wish("train_images", WHAT)] = None,
    epochs: Annotated[int | None, _wish("epochs", HOW)] = None,
    recipe: Annotated[str | None, _wish("recipe", HOW)] = None,
    teacher_epochs: Annotated[int | None, _wish("teacher_epochs", TEACHER)] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="[METHOD.]NAME=VALUE", help="A field of all runs, or a knob of one method. Repeatable."),
    ] = None,
    no_follow: NoFollow = False,
    as_json: AsJson = False,
) -> None:
    """Launch a grid of runs under one name: every method with every pair and seed; teachers are shared."""
    home = find_home(as_json)
    base = {
        "dataset": dataset,
        "train_images": train_images,
        "epochs": epochs,
        "recipe": recipe,
        "teacher_epochs": teacher_epochs,
    }
    base = {key: value for key, value in base.items() if value is not None}
    per_method: dict[str, dict[str, Any]] = {}
    for setting in settings or []:
        name_, equals, text = setting.partition("=")
        owner, dot, knob = name_.partition(".")
        if dot and owner in method:
            own = {"method": owner} | per_method.get(owner, {})
            per_method[owner] = _with_settings(own, [f"{knob}{equals}{text}"])
        else:
            base = _with_settings(base, [setting])
    pairs = [(teacher or None, student) for teacher, _, student in (p.rpartition(":") for p in pair)]
    specs = _checked(suites.grid(name, base, method, pairs, seed or [0], per_method), home)
    _launched(home, runner.launch_suite(home, specs), f"suite {name}", not no_follow, as_json)


@app.command()
def demo(
    again: Annotated[bool, typer.Option("--again", help="Train anew what an earlier demo has trained.")] = False,
    no_follow: NoFollow = False,
    as_json: AsJson = False,
) -> None:
    """Train the demo suite, six methods on real digits in a few minutes, and print the leaderboard."""
    home = find_home(as_json)
    specs = _checked(suites.demo_suite(), home)
    _launched(home, runner.launch_suite(home, specs, reuse=not again), "demo suite", not no_follow, as_json)


@app.command()
def replicate(
    table: Annotated[str, typer.Argument(help="A table of the literature: " + ", ".join(literature.TABLES) + ".")],
    scale: Annotated[str, typer.Option(help="quick, or the recipe of the literature: paper, crd.")] = replications.QUICK,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Runs of each row and column.")] = 3,
    data: Annotated[list[str] | None, typer.Option(help="quick: a dataset that stands in. Repeatable.")] = None,
    printed_networks: Annotated[bool, typer.Option("--printed-networks", help="quick: no smaller ones in their place.")] = False,
    column: Annotated[list[str] | None, typer.Option(help="Train this column alone, such as resnet56-resnet20.")] = None,
    no_follow: NoFollow = False,
    as_json: AsJson = False,
) -> None:
    """Train what is missing of a table of the literature; the page Compare shows it beside the printed numbers."""
    home = find_home(as_json)
    found = literature.find(table)
    how = replications.Scale(
        replications.scale_of(scale), seeds, tuple(data or (replications.STAND_IN,)), printed_networks,
        replications.columns_named(found, column or found.first),
    )  # fmt: skip
    specs = _checked([trial.spec for trial in replications.trials(found, how, home)], home)
    suite = replications.suite_of(found, how)
    _launched(home, runner.launch_suite(home, specs, reuse=True), f"suite {suite}", not no_follow, as_json)


@app.command()
def queue(as_json: AsJson = False) -> None:
    """Move the queue on and show what runs and what waits."""
    home = find_home(as_json)
    runner.tick(home)
    terminal.show_runs([v for v in views(home) if not is_over(v.status)], as_json, "The queue is empty: launch a run.")


@app.command()
def status(
    run_ids: Annotated[list[str] | None, typer.Argument(metavar="[RUN_ID...]", help="Show these; one alone in full.")] = None,
    suite: Annotated[str | None, typer.Option(help="Only runs of this suite.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All runs, not only the newest 20.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how runs stand, newest last."""
    home = find_home(as_json)
    if run_ids and len(run_ids) == 1 and not as_json:
        folder = find_run(home, run_ids[0])
        out.print(terminal.run_panel(view(folder, home), folder))
        return
    wanted = {find_run(home, run_id).run_id for run_id in run_ids or []}
    shown = [v for v in views(home) if not wanted or v.run_id in wanted]
    shown = [v for v in shown if suite is None or (v.request and v.request.spec.suite == suite)]
    terminal.show_runs(
        shown if every or as_json else shown[-20:], as_json, "No runs yet: `python -m kdengine demo` trains a first suite."
    )


@app.command()
def cancel(run_ids: RunIds) -> None:
    """Stop runs: a running one has 10 s to stop by itself, then it is killed."""
    home = find_home()
    for run_id in [find_run(home, part).run_id for part in run_ids]:
        with err.status(f"stopping {run_id}"):
            runner.cancel(home, run_id)
        out.print(f"cancelled {run_id}", highlight=False)


@app.command()
def resume(run_id: RunId, no_follow: NoFollow = False, as_json: AsJson = False) -> None:
    """Go on with a failed, cancelled or lost run from its last checkpoint, and follow it."""
    home = find_home(as_json)
    folder = find_run(home, run_id)
    runner.resume(home, folder.run_id)
    _launched(home, [folder.run_id], folder.read_request().spec.summary(), not no_follow, as_json)


@app.command()
def retry(run_id: RunId, no_follow: NoFollow = False, as_json: AsJson = False) -> None:
    """Launch the spec of an earlier run as a new run, and follow it."""
    home = find_home(as_json)
    fresh = find_run(home, runner.retry(home, run_id))
    _launched(home, [fresh.run_id], fresh.read_request().spec.summary(), not no_follow, as_json)


@app.command("label")
def label_(
    run_ids: RunIds,
    tag: Annotated[list[str] | None, typer.Option(help="A word to find the run by, added. Repeatable.")] = None,
    untag: Annotated[list[str] | None, typer.Option(help="A tag to take away. Repeatable.")] = None,
    note: Annotated[str | None, typer.Option(help="Free text in place of the note; '' for none.")] = None,
    as_json: AsJson = False,
) -> None:
    """Give runs tags and a note after their launch; without options, show what they have."""
    home = find_home(as_json)
    runs = [find_run(home, part) for part in run_ids]
    if tag or untag or note is not None:
        found = {run.run_id: labels.retag(run, add=tag or (), remove=untag or (), note=note) for run in runs}
    else:
        found = {run.run_id: labels.read(run) for run in runs}
    if as_json:
        terminal.show_json([{"run_id": run_id} | asdict(held) for run_id, held in found.items()])
        return
    for run_id, held in found.items():
        out.print(f"{run_id}  {' '.join(held.tags) or '(no tags)'}  {held.note}", highlight=False, markup=False, soft_wrap=True)


cli_catalogue.add_to(app)
cli_doctor.add_to(app)
cli_people.add_to(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits the process."""
    app(args=list(arguments) if arguments is not None else None, prog_name="python -m kdengine")


# -- shared by the commands ----------------------------------------------------------------------------------------------


def _with_settings(values: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Add ``NAME=VALUE`` texts to the values of a spec: knobs of the method first, then fields of the spec."""
    if not settings:
        return values
    from kdengine import methods as catalogue

    method = catalogue.entries().get(values.get("method", RunSpec.model_fields["method"].default))
    knobs = method.params.model_fields if method else {}
    params, values = dict(values.get("params", {})), dict(values)
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not (name and equals):
            raise SpecError.of(f"--set {setting}", "NAME=VALUE", "write for example --set T=4", "set")
        if name in RunSpec.model_fields and name not in knobs:
            values[name] = _value(text)
        else:
            params[name] = _value(text)
    return values | ({"params": params} if params else {})


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _checked(specs: Sequence[RunSpec], home: Home) -> list[RunSpec]:
    """Return the specs complete.

    Raises:
        SpecError: with every problem of every spec, each once.
    """
    with err.status("checking"):
        from kdengine.check import check, resolve

        complete = [resolve(spec) for spec in specs]
        problems = list(dict.fromkeys(problem for spec in complete for problem in check(spec, home)))
    if problems:
        raise SpecError(*problems)
    return complete


def _launched(home: Home, run_ids: list[str], title: str, follow: bool, as_json: bool) -> None:
    """Follow what was launched, or say how to; exit 0 only when all of it finished."""
    if not follow:
        if as_json:
            terminal.show_json([view(find_run(home, run_id), home).as_dict() for run_id in run_ids])
        else:
            for run_id in run_ids:
                out.print(run_id, highlight=False)
            err.print("[dim]queued; watch with[/] python -m kdengine status", highlight=False)
        return
    try:
        shown = terminal.follow(home, run_ids, title)
    except KeyboardInterrupt:
        what = run_ids[0] if len(run_ids) == 1 else "RUN_ID"
        err.print(f"no longer watching; the training goes on. Stop it with: python -m kdengine cancel {what}", highlight=False)
        raise typer.Exit(130) from None
    _show_end(home, shown, title, as_json)
    raise typer.Exit(0 if all(v.status is RunStatus.FINISHED for v in shown) else 1)


def _show_end(home: Home, shown: Sequence[RunView], title: str, as_json: bool) -> None:
    if as_json:
        terminal.show_json([v.as_dict() for v in shown])
        return
    for v in shown:
        if v.status is not RunStatus.FINISHED:
            out.print(terminal.run_panel(v, find_run(home, v.run_id)))
    standings = suites.leaderboard(home, [v.run_id for v in shown])
    if standings:
        out.print(terminal.leaderboard_table(standings, title))
    if len(shown) == 1:
        out.print(f"{shown[0].status}: {find_run(home, shown[0].run_id).path}", highlight=False, soft_wrap=True)
