"""The tab on data: what the images are, why more classes are harder, what lies on this disk and how to bring the rest here.

Reads: the register of datasets, decoded images through ``kdengine.pictures``, the store through ``fetch``. Writes: nothing;
starts and stops downloads through ``actions_kept``. Never: torch, a download in the app's process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from kdengine import datasets, fetching, pictures
from kdengine.datasets import DatasetCard
from pages.parts import actions_kept, blocks, demo, pulse, state, who, words
from pages.parts.learn import figures, networks

EASY, HARD = "cifar10", "cifar100"  # the pair that the field compares on
MANY = 20  # classes shown at once
PER_CLASS, COLUMNS, SIZE = 8, 4, 32
OWN_DATA = {"imagefolder": "folders of images", "parquet": "parquet files"}


def draw() -> None:
    """Draw the tab."""
    cards = datasets.cards(pulse.of().home)
    comparison(cards[EASY], cards[HARD])
    groups(cards[HARD])
    samples(cards)
    shelf(cards)
    your_own()


# ---- two datasets compared ---------------------------------------------------------------------------------------------------


def comparison(easy: DatasetCard, hard: DatasetCard) -> None:
    """Draw the two datasets side by side, and what the step from one to the other costs the same network."""
    st.subheader(f"{easy.title} against {hard.title}", anchor=False)
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.table(facts(easy, hard), border="horizontal")
        blocks.note("Both were drawn from the same large collection of small photographs and labelled by hand.")
    with right:
        own, printed = networks.own_results(), networks.printed_results()
        both = figures.both_datasets(own, printed, EASY, HARD)
        st.markdown(figures.what_it_costs(both, easy, hard))
        blocks.chart(figures.two_datasets(both, easy.title, hard.title), "two-datasets", alt="Accuracy on both", zoom=False)
        blocks.note("Same network on both, trained alone. Hollow: published, mean of the sources; filled: measured here.")


def facts(easy: DatasetCard, hard: DatasetCard) -> pd.DataFrame:
    """Return what tells the two apart, one column each."""
    lines = {
        "Classes": lambda c: f"{c.classes}",
        "Training images": lambda c: f"{c.train_images:,}",
        "of each class": lambda c: f"{c.train_images // c.classes:,}",
        "Test images": lambda c: f"{c.test_images:,}",
        "Pixels": lambda c: f"{c.native_size} x {c.native_size}",
        "Superclasses": lambda c: _superclasses(c.key),
    }
    return pd.DataFrame({card.title: [line(card) for line in lines.values()] for card in (easy, hard)}, index=list(lines))


def _superclasses(key: str) -> str:
    found = datasets.superclasses(key)
    return f"{len(found)}, of {len(next(iter(found.values())))} classes each" if found else "none, classes stand alone"


def groups(card: DatasetCard) -> None:
    """List the superclasses with their classes."""
    found = datasets.superclasses(card.key)
    box = blocks.drawer(f"The {len(found)} superclasses of {card.title}", "superclasses")
    if box is None:
        return
    with box, st.grid(min_column_width=230, gap="small"):
        for name, classes in found.items():
            st.markdown(f"**{name.capitalize()}**  \n:gray[{', '.join(map(plain, classes))}]")


# ---- images ------------------------------------------------------------------------------------------------------------------


def samples(cards: dict[str, DatasetCard]) -> None:
    """Draw real training images of each class of a dataset."""
    home = pulse.of().home
    st.subheader("What the images look like", anchor=False)
    titles = {key: card.title for key, card in cards.items()}
    shown = sorted((key for key in cards if pictures.decoded(home, key)), key=lambda key: -cards[key].native_size)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        key = state.choice(st.selectbox, "Images of", titles, name="images", default=(shown or list(cards))[0], width=260)
        place = st.container(width=320)
    card = cards[key]
    folder = pictures.decoded(home, key)
    if folder is None:
        _no_pixels(card)
        return
    with place:
        labels = choose_classes(card)
    sheets = strips(str(home.root), key, folder.name)
    with st.grid(min_column_width=160, gap="medium"):
        for label in labels:
            if label in sheets:
                with st.container(gap="xsmall"):
                    st.image(sheets[label], width="stretch", alt=f"Images of the class {plain(card.class_names[label])}")
                    st.caption(plain(card.class_names[label]))
    size = card.native_size
    native = "" if size == SIZE else f", {'enlarged' if size < SIZE else 'reduced'} from {size} x {size}"
    blocks.note(
        f"The first {PER_CLASS} of each class among {card.train_images:,} training images;",
        f"{SIZE} x {SIZE} pixels, as a network sees them{native}.",
    )


def choose_classes(card: DatasetCard) -> list[int]:
    """Draw the choice of classes where there are many; return the labels to show."""
    place = {name: label for label, name in enumerate(card.class_names)}
    if found := datasets.superclasses(card.key):
        titles = {name: name.capitalize() for name in found}
        name = state.choice(st.selectbox, "Superclass", titles, name="superclass", default=next(iter(found)))
        return [place[one] for one in found[name]]
    if card.classes <= MANY:
        return list(range(card.classes))
    parts = {str(first): f"{first + 1} to {min(first + MANY, card.classes)}" for first in range(0, card.classes, MANY)}
    first = int(state.choice(st.selectbox, "Classes", parts, name="classes", default="0"))
    return list(range(first, min(first + MANY, card.classes)))


@st.cache_data(max_entries=12, show_spinner=False)
def strips(root: str, key: str, folder: str) -> dict[int, bytes]:
    """Return label -> a PNG of the first images of that class; ``folder`` tells one state of the files from another."""
    found = pictures.train_samples(pulse.of().home, key, PER_CLASS) or {}
    return {label: pictures.as_png(pictures.mosaic(images, COLUMNS), 3) for label, images in found.items()}


def _no_pixels(card: DatasetCard) -> None:
    if demo.on():
        demo.lacks(f"The images of {words.escaped(card.title)} are not part of this demo.", "An app of your own fetches them.")
        return
    st.markdown(f"Real images of {card.title} appear here when it has been fetched and read once.")
    standing([card], "samples", lambda card: f"**{words.escaped(card.title)}**")


# ---- what is on this disk ----------------------------------------------------------------------------------------------------


def shelf(cards: dict[str, DatasetCard]) -> None:
    """List all datasets with where they are, and a button for each that is not here."""
    st.subheader("All datasets", anchor=False)
    standing(list(cards.values()), "shelf", description)


def description(card: DatasetCard) -> str:
    """Return what a dataset is, in three lines."""
    name = f"`{card.key}`" if card.title == card.key else f"**{words.escaped(card.title)}**&ensp;`{card.key}`"
    images = f"{card.classes} classes, {card.train_images:,} training and {card.test_images:,} test images"
    source = f"{card.source[0].upper()}{card.source[1:]}"  # addresses become links
    own = demo.on() and card.key not in datasets.BUILTIN  # registered where the runs were trained: nobody here knows its terms
    terms = "" if own else f" Licence: {datasets.licence(card.key)}."
    lines = (f"{images}, {card.native_size} x {card.native_size} pixels", f"{source}.{terms}")
    return f"{name}  \n:gray[{lines[0]}]  \n:gray[{lines[1]}]"


def standing(cards: Sequence[DatasetCard], place: str, describe: Callable[[DatasetCard], str]) -> None:
    """Draw how datasets stand, live: on disk, on their way, failed, or a button; ``place``: where on the page."""
    home = pulse.of().home

    def views() -> dict[str, fetching.View]:
        return {card.key: fetching.view(home, card.key) for card in cards}

    def body() -> None:
        """The live part: one for all, because each costs the server something at every tick."""
        now = views()
        state.settle(_marks(was), _marks(now))
        for card in cards:
            with st.container(border=True):
                left, right = st.columns([3, 2], gap="medium", vertical_alignment="center")
                left.markdown(describe(card))
                with right:
                    _where(card, now[card.key], place)
                _problems(card, now[card.key])

    was = views()
    state.live(body, busy=any(view.state == "fetching" for view in was.values()))


def _marks(views: dict[str, fetching.View]) -> list[tuple[str, bool]]:
    return [(view.state, view.decoded) for view in views.values()]


def _problems(card: DatasetCard, now: fetching.View) -> None:
    blocks.problems(now.problems, "It could not be read" if now.state == "here" else f"{card.title} could not be fetched")


def _where(card: DatasetCard, now: fetching.View, place: str) -> None:
    if now.state == "fetching":
        st.progress(now.share, text=how_far(now, card))
        if who.may("fetch-dataset") and st.button("Stop", key=f"stop-{place}-{card.key}", icon=":material/stop:"):
            actions_kept.stop_fetching(card.key)
        return
    if demo.on():
        st.markdown(":green[✓ part of this demo]" if now.decoded else ":gray[○ its images are not part of this demo]")
        return
    if now.state == "here":
        st.markdown(f":green[✓ on this disk]&ensp;:gray[{taken(card)}]")
    else:
        st.markdown(":gray[○ not on this disk]")
    offer(card, now, place)


def offer(card: DatasetCard, now: fetching.View, place: str) -> None:
    """Draw the button that fetches or decodes a dataset, where there is something left to do."""
    if (now.state == "here" and (now.decoded or place != "samples")) or not who.may("fetch-dataset"):
        return
    word = "Try again" if now.problems else "Show samples" if now.state == "here" else f"Fetch {words.size(card.download_mib)}"
    icon = ":material/refresh:" if now.problems else ":material/image:" if now.state == "here" else ":material/download:"
    if st.button(word, key=f"fetch-{place}-{card.key}", icon=icon):
        actions_kept.fetch_dataset(card.key)
        st.rerun(scope="app")


def how_far(now: fetching.View, card: DatasetCard) -> str:
    """Say how far a fetching is: ``34 % of 162 MiB, about 2 min left``."""
    left = "" if now.left_s is None else f", {words.roughly(now.left_s)} left"
    if now.step == fetching.DOWNLOAD and now.done:
        return f"{100 * now.share:.0f} % of {words.size(now.total / 2**20)}{left}"
    if now.step == fetching.DECODE:
        return f"Reading the images{left}"
    return f"Asking for {card.title}"


def taken(card: DatasetCard) -> str:
    """Say what a dataset takes on the disk."""
    mib = datasets.disk_bytes(pulse.of().home, card.key) / 2**20
    if card.kind in OWN_DATA:
        return f"in your {OWN_DATA[card.kind]}" + (f", {words.size(mib)} decoded beside them" if mib else "")
    return words.size(mib) if mib else "nothing to download"


# ---- your own ----------------------------------------------------------------------------------------------------------------


def your_own() -> None:
    """Say how to add a dataset of one's own, to who looks after the server: its folders are registered there."""
    if not who.may("server"):
        return
    st.subheader("Add your own", anchor=False)
    st.markdown("Any folder of images can be learnt from. Nothing is copied: the name points to where the files lie.")
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**One folder per class**, as `train/cat/1.png` and `test/cat/9.png`")
        st.code("python -m kdengine datasets add flowers --imagefolder ~/flowers", language="bash", wrap_lines=True)
    with right:
        st.markdown("**Parquet files** with an image and a label column, as Hugging Face writes them")
        st.code("python -m kdengine datasets add pets --parquet ~/pets", language="bash", wrap_lines=True)


def plain(name: str) -> str:
    """Return a class's name in plain words: ``maple tree``."""
    return words.escaped(name.replace("_", " "))
