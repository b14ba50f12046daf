"""The files that a race becomes: containers, frames, delays, colours, and what is left when something goes wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import psutil
import pytest
from PIL import Image

from kdengine.errors import KdError
from store.export.race import encode
from store.export.race.chart import Race, classic
from store.export.race.order import Order
from store.export.race.render import render
from tests.store.racing import order

ROOT = Path(__file__).resolve().parents[2]
SIZE = {"width": 400, "height": 300, "steps": 4, "fps": 20}


def atoms(path: Path) -> list[str]:
    """Return the names of the boxes of an MP4, in their order."""
    data, at, found = path.read_bytes(), 0, list[str]()
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 8].decode("latin1"))
        at += size or len(data)
    return found


def probed(path: Path) -> str:
    """Return what ffmpeg says of a file."""
    return subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path)], capture_output=True, text=True, check=False).stderr


def decoded(path: Path, width: int, height: int) -> list[np.ndarray]:
    """Return the frames of a video as RGB."""
    exact = "scale=flags=accurate_rnd+full_chroma_int+full_chroma_inp"  # else white comes back as 253
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-i",
        str(path),
        "-vf",
        exact,
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return list(np.frombuffer(data, dtype=np.uint8).reshape(-1, height, width, 3))


def shown(race: Order) -> list[np.ndarray]:
    """Return the frames as they are drawn, as RGB."""
    drawn = Race(race)
    return [drawn.table[frame] for frame in drawn.frames()]


def children() -> set[int]:
    """Return the processes that this one has begun."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


# ---- MP4 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hold_s", [0, 2])
def test_an_mp4_plays_everywhere_and_has_every_frame(tmp_path: Path, hold_s: float) -> None:
    race = order(epochs=5, hold_s=hold_s, **SIZE)
    made = render(race, tmp_path / "x.mp4", poster=tmp_path / "last.png")
    names = atoms(tmp_path / "x.mp4")
    assert names[0] == "ftyp" and names.index("moov") < names.index("mdat")
    said = probed(tmp_path / "x.mp4")
    assert re.search(r"Video: h264 .*yuv420p\(tv, bt709", said) and "400x300" in said and "20 fps" in said
    frames = decoded(tmp_path / "x.mp4", 400, 300)
    assert len(frames) == made.frames == (17 if hold_s == 0 else 17 + 10 + 40)
    assert made.bytes == (tmp_path / "x.mp4").stat().st_size
    # what is seen is what was drawn: the loss of the codec is below what the eye sees
    ours = shown(race)
    for got, wanted in ((frames[0], ours[0]), (frames[-1], ours[-1])):
        assert abs(got.astype(int) - wanted).mean() < 1.6
    assert np.array_equal(np.array(Image.open(tmp_path / "last.png").convert("RGB")), ours[-1])


def test_colours_of_a_video_are_those_of_the_page(tmp_path: Path) -> None:
    race = order({"a": [0.0, 70.0], "b": [0.0, 60.0]}, axis="zero", hold_s=0, **SIZE)
    render(race, tmp_path / "x.mp4")
    last, ours = decoded(tmp_path / "x.mp4", 400, 300)[-1].astype(int), shown(race)[-1]
    for racer in race.racers:
        colour = [int(racer.colour[i : i + 2], 16) for i in (1, 3, 5)]
        inside = (ours == colour).all(axis=2)
        assert abs(np.median(last[inside], axis=0) - colour).max() < 3


def test_the_planes_of_a_video_are_those_of_the_palette() -> None:
    random = np.random.default_rng(0)
    table, pixels = random.integers(0, 256, (256, 3), dtype=np.uint8), random.integers(0, 256, (6, 8), dtype=np.uint8)
    red, green, blue = (table[pixels].astype(float) / 255).transpose(2, 0, 1)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    chroma = [128 + 224 * (colour - luma) / scale for colour, scale in ((blue, 1.8556), (red, 1.5748))]
    wanted = [16 + 219 * luma, *(plane[::2, ::2] for plane in chroma)]
    for part, plane in zip(encode.Planes(table).parts(pixels), wanted, strict=True):
        assert bytes(part) == np.rint(plane).astype(np.uint8).tobytes()


def test_an_mp4_says_where_it_comes_from(tmp_path: Path) -> None:
    render(order(epochs=2, source="runs 1 2 3", **SIZE), tmp_path / "x.mp4")
    said = probed(tmp_path / "x.mp4")
    assert "runs 1 2 3" in said and "Which method learns fastest?" in said


# ---- GIF ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_ffmpeg", [True, False])
@pytest.mark.parametrize(("fps", "hold_s"), [(20, 2), (20, 0), (30, 1)])
def test_a_gif_has_every_frame_in_its_very_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_ffmpeg: bool, fps: int, hold_s: float
) -> None:
    if not with_ffmpeg:
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "none"))
    assert (encode.ffmpeg_exe() is not None) == with_ffmpeg
    race = order(epochs=4, hold_s=hold_s, format="gif", source="runs 1 2 3", **SIZE | {"fps": fps})
    made = render(race, tmp_path / "x.gif")
    ours, delays = shown(race), []
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames == made.frames == len(ours) == 13
        assert gif.info["loop"] == 0 and gif.size == (400, 300)
        for number, wanted in enumerate(ours):
            gif.seek(number)
            delays.append(gif.info["duration"])
            assert np.array_equal(np.array(gif.convert("RGB")), wanted), number
        gif.seek(gif.n_frames - 1)
        gif.load()
    first, last = race.options.held_frames
    assert sum(delays) == pytest.approx(1000 * (13 + first + last) / fps, abs=20)
    assert delays[0] == pytest.approx(1000 * (1 + first) / fps, abs=10)
    assert delays[-1] == pytest.approx(1000 * (1 + last) / fps, abs=10)
    if fps == 20:
        assert set(delays[1:-1]) == {50}
    assert b"runs 1 2 3" in (tmp_path / "x.gif").read_bytes()


def test_frames_that_are_equal_are_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    race = order({"a": [1.0] * 4, "b": [2.0] * 4}, format="gif", hold_s=0, axis="zero", title="", **SIZE)
    render(race, tmp_path / "x.gif")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "none"))
    render(race, tmp_path / "y.gif")
    for name in ("x.gif", "y.gif"):
        with Image.open(tmp_path / name) as gif:
            assert gif.n_frames == 13


def test_without_ffmpeg_an_mp4_is_refused_before_anything_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "none"))
    seen: list[float] = []
    with pytest.raises(KdError) as caught:
        render(order(**SIZE), tmp_path / "x.mp4", report=lambda done, total: seen.append(done))
    assert "GIF" in str(caught.value) and "imageio-ffmpeg" in str(caught.value)
    assert seen == [] and list(tmp_path.iterdir()) == []


# ---- PNG, and the package's own -------------------------------------------------------------------------------------------


def test_a_png_is_the_last_frame(tmp_path: Path) -> None:
    race = order(epochs=4, format="png", source="runs 1 2 3", **SIZE)
    made = render(race, tmp_path / "x.png")
    moving = shown(order(epochs=4, **SIZE))
    with Image.open(tmp_path / "x.png") as image:
        assert np.array_equal(np.array(image.convert("RGB")), moving[-1])
        assert "runs 1 2 3" in image.info["Comment"]
    assert made.frames == 1
    one = order({"a": [70.0], "b": [60.0]}, format="png", **SIZE)
    render(one, tmp_path / "one.png")  # one epoch is a picture


@pytest.mark.slow
@pytest.mark.parametrize("format", ["mp4", "gif"])
def test_classic_is_the_package_itself(tmp_path: Path, format: str) -> None:
    """In a process of its own: the package leaves figures and settings behind."""
    code = f"""
import warnings, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from store.export.race.order import Order, Racer
from store.export.race.options import Options
from store.export.race.render import render
import matplotlib as mpl
before = dict(mpl.rcParams)
racers = [Racer(name=n, colour="#1d60bc", values=v) for n, v in (("a", (1, 2, 3)), ("b", (3, 2, 1)))]
options = Options(kind="classic", format="{format}", steps=3, fps=20)
made = render(Order(epochs=(1, 2, 3), racers=racers, options=options), Path("x.{format}"))
assert made.frames == 7, made
assert dict(mpl.rcParams) == before
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    if format == "mp4":
        assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "x.mp4"))[0] == 7
    else:
        with Image.open(tmp_path / "x.gif") as gif:
            assert gif.n_frames == 7


def test_classic_draws_no_png(tmp_path: Path) -> None:
    with pytest.raises(KdError, match="mp4 or gif"):
        classic(order(kind="classic", format="png"), tmp_path / "x.png", lambda done, total: None)


# ---- what goes wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["mp4", "gif"])
def test_a_stopped_drawing_leaves_neither_process_nor_file(tmp_path: Path, format: str) -> None:
    before = children()

    def stop(done: float, total: float) -> None:
        if done == 5:
            assert len(children() - before) == 1, "ffmpeg works beside us"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(order(epochs=8, format=format, **SIZE), tmp_path / f"x.{format}", report=stop)
    assert children() == before and list(tmp_path.iterdir()) == []


def test_an_ffmpeg_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho 'Unknown encoder libx264' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    with pytest.raises(KdError, match="Unknown encoder libx264"):
        render(order(epochs=20, **SIZE), tmp_path / "x.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg"]


def test_a_full_disk_is_named_and_nothing_half_made_stays(tmp_path: Path) -> None:
    """The limit on the size of files stands for a disk without room; it is set in a process of its own."""
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tests_order import race
from store.export.race.render import render
from kdengine.errors import KdError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    render(race, Path("x.gif"))
except (KdError, OSError) as error:
    print("fault:", error)
"""
    (tmp_path / "tests_order.py").write_text(
        "from store.export.race.order import Order\n"
        f"race = Order.model_validate_json({order(epochs=6, format='gif', **SIZE).model_dump_json()!r})\n"
    )
    for exe in (imageio_ffmpeg.get_ffmpeg_exe(), "none"):
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
                              env=os.environ | {"IMAGEIO_FFMPEG_EXE": exe, "PYTHONPATH": f"{tmp_path}"})  # fmt: skip
        assert done.stdout.startswith("fault:"), done.stderr[-1500:]
        assert [p.name for p in tmp_path.iterdir() if "x" in p.suffix or p.suffix == ".gif"] == []


# ---- how fast it begins --------------------------------------------------------------------------------------------------


def test_drawing_loads_neither_pandas_nor_pyplot(tmp_path: Path) -> None:
    """The package imports both at once, which took longer than most races; they are there when it asks for them."""
    code = f"""
import sys
from pathlib import Path
from store.export.race.order import Order
from store.export.race.render import render
render(Order.model_validate_json({order(epochs=3, format="gif", **SIZE).model_dump_json()!r}), Path("x.gif"))
loaded = {{name.split(".")[0] for name in sys.modules}} | set(sys.modules)
assert not loaded & {{"pandas", "duckdb", "streamlit", "matplotlib.pyplot"}}, loaded
from bar_chart_race import _make_chart
assert _make_chart.pd.DataFrame({{"a": [1]}}).shape == (1, 1) and callable(_make_chart.plt.Figure)
import pandas, matplotlib.pyplot
assert pandas.DataFrame is _make_chart.pd.DataFrame
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]
