"""The commands that list what there is to train, and bring it here: methods, networks, datasets.

Reads: the catalogues, the register of datasets. Writes: the terminal; datasets through their register.
Never: torch at import; it loads inside the commands that need it.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated

import typer

from kdengine import datasets, errands, fetching, latency, terminal
from kdengine.cli_frame import AsJson, Commands, find_home
from kdengine.errors import KdError
from kdengine.terminal import err, out

datasets_app = typer.Typer(cls=Commands, help="What there is to learn from: list, add your own, fetch.")


def add_to(app: typer.Typer) -> None:
    """Give ``app`` these commands."""
    app.command()(methods)
    app.command()(models)
    app.command()(networks)
    app.add_typer(datasets_app, name="datasets")


def methods(as_json: AsJson = False) -> None:
    """List the methods and their knobs."""
    from kdengine import methods as catalogue

    cards = []
    for entry in catalogue.entries().values():
        card = {f.name: getattr(entry.card, f.name) for f in fields(entry.card)}
        knobs = entry.params.model_json_schema()["properties"] if entry.params.model_fields else {}
        cards.append(card | {"needs": sorted(entry.card.needs), "params": knobs})
    terminal.show_cards(cards, ("key", "family", "year", "one_line"), as_json)


def models(as_json: AsJson = False) -> None:
    """List the networks, with parameters and multiply-adds for 10 classes at 32 pixels; torchvision's by name."""
    from kdengine import models as catalogue

    words = ("key", "title", "family", "year", "depth", "source")
    built = [(card, catalogue.info(card.key, 10)) for card in catalogue.cards().values()]
    cards = [{n: getattr(card, n) for n in words} | {"params": info.params, "macs": info.macs} for card, info in built]
    terminal.show_cards(cards, ("key", "family", "depth", "params", "macs"), as_json)
    if not as_json:
        out.print("for images of real size also:", ", ".join(catalogue.torchvision_names()), highlight=False)


@datasets_app.callback(invoke_without_command=True)
def datasets_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """What there is to learn from: list, add your own, fetch."""
    if ctx.invoked_subcommand is None:
        list_datasets(as_json)


@datasets_app.command("list")
def list_datasets(as_json: AsJson = False) -> None:
    """List the datasets, built in and your own."""
    home = find_home(as_json)
    cards = [asdict(card) | {"here": datasets.is_here(home, key)} for key, card in datasets.cards(home).items()]
    terminal.show_cards(cards, ("key", "classes", "train_images", "test_images", "native_size", "here"), as_json)


@datasets_app.command("add")
def add_dataset(
    name: Annotated[str, typer.Argument(help="Name to use from now on.")],
    imagefolder: Annotated[Path | None, typer.Option(help="Folder with train/<class>/* and test/<class>/*.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Folder with train and test parquet, Hugging Face layout.")] = None,
) -> None:
    """Register a dataset of your own under a name. Nothing is copied."""
    card = datasets.add(find_home(), name, imagefolder=imagefolder, parquet=parquet)
    said = f"{card.classes} classes, {card.train_images} training and {card.test_images} test images"
    out.print(f"added {card.key}: {said}", highlight=False)


@datasets_app.command("fetch")
def fetch_dataset(name: Annotated[str, typer.Argument(help="Name of the dataset.")]) -> None:
    """Download a built-in dataset now rather than when a run needs it, and decode it, so that the first run starts at once."""
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn

    home = find_home()
    card = datasets.get(home, name)
    with fetching.Recorder(home, fetching.errand(name)) as note:
        from kdengine import data

        note.step(fetching.DOWNLOAD, card.download_mib * 2**20)
        with Progress(*Progress.get_default_columns()[:2], DownloadColumn(), TimeRemainingColumn(), console=err) as bar:
            task = bar.add_task(name, total=None)

            def report(done: float, total: float) -> None:
                bar.update(task, completed=done, total=total)
                note(done, total)

            data.fetch(home, name, fetching.whole(report, card.download_mib * 2**20))
        note.step(fetching.DECODE)
        with err.status("decoding"):
            data.load(home, name, progress=note)
    out.print(f"{name} is here", highlight=False)


def networks(
    measure: Annotated[bool, typer.Option("--measure", help="Measure now, on one thread of the CPU: a minute or two.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how long each network takes for an image on this machine, as last measured."""
    home = find_home(as_json)
    if measure:
        with errands.Recorder(home, latency.ERRAND) as note, err.status("measuring") as said:
            note.step("measure")

            def report(key: str, done: int, total: int) -> None:
                said.update(f"measuring {key} ({done} of {total})")
                note(done, total)

            latency.measure(home, report)
    measured = latency.read(home)
    if measured is None:
        given = "no measurement on this machine yet"
        raise KdError.of(given, "networks --measure", "run python -m kdengine networks --measure")
    rows = [
        {"key": key} | {f"batch_{n}_ms": round(v.ms, 2) for n, v in found.items()} for key, found in measured.networks.items()
    ]
    terminal.show_cards(rows, ("key", *(f"batch_{n}_ms" for n in latency.BATCHES)), as_json)
    if not as_json:
        out.print(f"milliseconds per pass; {measured.summary()}", highlight=False)
