"""Frames into files: MP4 and GIF through ffmpeg, GIF through Pillow where there is no ffmpeg, PNG.

ffmpeg gets indices with their palette for a GIF, so that no palette has to be found and memory stays flat; and for an MP4 the
three planes of a video in half the bytes of RGB, so that it has nothing to convert.

Reads: the environment (``IMAGEIO_FFMPEG_EXE``, read by imageio-ffmpeg). Writes: the file it is given, and ffmpeg's messages in
a file without a name. Starts one process. Never: what is drawn.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import ffmpeg
import imageio_ffmpeg
import numpy as np
from PIL import GifImagePlugin, Image, PngImagePlugin

from kdengine.errors import KdError
from store.export.race.canvas import Bytes
from store.export.race.options import Options

CRF, PRESET = 20, "veryfast"
# flat colours are what a race is made of, so they get a finer step; frames that need later ones, weights and a search between
# pixels find nothing here, and took a quarter of the time
X264 = "chroma-qp-offset=-6:bframes=0:weightp=0:subme=1"
PIPE_BYTES = 1 << 20
GIF_END = b";"
NO_FFMPEG = KdError.of(
    "an MP4, and no ffmpeg is here", "GIF and PNG, which need none",
    "choose GIF, or install one: pip install imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE", "format",
)  # fmt: skip
BT709 = {"color_range": "tv", "colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}
LUMA = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709


class Encoder(Protocol):
    """Takes frames, then makes a file of them. As a context it ends its process and lets go of its file, whatever happens."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def write(self, pixels: Bytes) -> None:
        """Take the next frame: indices (height, width)."""
        ...

    def close(self) -> None:
        """Finish the file.

        Raises:
            KdError: it could not be made.
        """
        ...


def ffmpeg_exe() -> str | None:
    """Return the ffmpeg that is used, None where there is none."""
    try:
        return shutil.which(imageio_ffmpeg.get_ffmpeg_exe())  # what the environment names need not be there
    except RuntimeError:
        return None


def encoder(options: Options, table: Bytes, out: Path, *, title: str = "", comment: str = "") -> Encoder:
    """Return what makes ``out``; ``table``: the colours of the indices, (256, 3).

    Raises:
        KdError: an MP4 is asked for and there is no ffmpeg.
    """
    exe = ffmpeg_exe()
    if options.format == "gif":
        return Ffmpeg(gif_command(exe, options, out), Indexed(table)) if exe else PillowGif(options, table, out)
    if exe is None:
        raise NO_FFMPEG
    return Ffmpeg(mp4_command(exe, options, out, title, comment), Planes(table))


# ---- the two forms in which ffmpeg gets a frame --------------------------------------------------------------------------------


class Indexed:
    """A byte per pixel and the palette behind them: what ffmpeg calls pal8."""

    def __init__(self, table: Bytes) -> None:
        self._palette = np.column_stack([table[:, ::-1], np.full(256, 255, dtype=np.uint8)]).tobytes()

    def parts(self, pixels: Bytes) -> tuple[bytes | bytearray, ...]:
        """Return what is written for a frame."""
        return pixels.tobytes(), self._palette


class Planes:
    """Brightness of every pixel, two colour planes of a quarter of the size: what ffmpeg calls yuv420p, in BT.709."""

    def __init__(self, table: Bytes) -> None:
        rgb = table / 255
        luma = rgb @ LUMA
        blue, red = (rgb[:, 2] - luma) / 1.8556, (rgb[:, 0] - luma) / 1.5748
        self._luma = np.rint(16 + 219 * luma).astype(np.uint8).tobytes()
        self._chroma = [np.rint(128 + 224 * plane).astype(np.uint8).tobytes() for plane in (blue, red)]

    def parts(self, pixels: Bytes) -> tuple[bytes | bytearray, ...]:
        """Return what is written for a frame."""
        # a byte array translates twice as fast as bytes; the low byte of two is the pixel of every other column
        quarter = bytearray(pixels[::2].view("<u2").astype(np.uint8).data)
        return bytearray(pixels.data).translate(self._luma), *(quarter.translate(plane) for plane in self._chroma)


def mp4_command(exe: str, options: Options, out: Path, title: str, comment: str) -> list[str]:
    """Return the command line that makes an MP4 which every browser plays while it still loads."""
    tags = {"metadata:g:0": f"title={title}", "metadata:g:1": f"comment={comment}"}
    # said of what comes in as well as of what goes out: else ffmpeg takes the one for the other, and converts
    stream = _raw(options, "yuv420p", **BT709).output(
        str(out), vcodec="libx264", pix_fmt="yuv420p", preset=PRESET, crf=CRF, threads=threads(), movflags="+faststart",
        format="mp4", **{"x264-params": X264}, **BT709, **tags,
    )  # fmt: skip
    return _compiled(exe, stream)


def gif_command(exe: str, options: Options, out: Path) -> list[str]:
    """Return the command line that makes a GIF which plays for ever; first and last frame are held by their delays."""
    first, last = (frames / options.fps for frames in options.held_frames)
    stream = _raw(options, "pal8")
    if first:
        stream = stream.filter("setpts", f"PTS+gt(N,0)*{first}/TB")
    delay = {"final_delay": round(100 * (last + 1 / options.fps))} if last else {}
    stream = stream.output(str(out), vcodec="gif", loop=0, fps_mode="passthrough", format="gif", **delay)
    return _compiled(exe, stream)


def threads() -> int:
    """Return the threads that x264 gets: the other one of two cores, a second one only where there are more (measured)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if cores <= 2 else 2


def _raw(options: Options, pix_fmt: str, **tags: str) -> Any:
    size = f"{options.width}x{options.height}"
    return ffmpeg.input("pipe:", format="rawvideo", pix_fmt=pix_fmt, s=size, framerate=options.fps, **tags)


def _compiled(exe: str, stream: Any) -> list[str]:
    command: list[str] = ffmpeg.compile(stream.global_args("-nostdin", "-hide_banner", "-loglevel", "error"), cmd=exe,
                                        overwrite_output=True)  # fmt: skip
    return command


class Ffmpeg:
    """A process of ffmpeg that frames are written to."""

    def __init__(self, command: list[str], form: Indexed | Planes) -> None:
        self._form = form
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._said)
        with contextlib.suppress(OSError, AttributeError):  # a larger pipe is a matter of speed, and of Linux
            fcntl.fcntl(self._input, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            self._input.close()
        self._said.close()

    def write(self, pixels: Bytes) -> None:
        """See ``Encoder``."""
        try:
            for part in self._form.parts(pixels):
                self._input.write(part)
        except BrokenPipeError:
            raise self._fault() from None

    def close(self) -> None:
        """See ``Encoder``."""
        try:
            self._input.close()
        except BrokenPipeError:
            raise self._fault() from None
        if self._process.wait() != 0:
            raise self._fault()

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _fault(self) -> KdError:
        code = self._process.wait()
        self._said.seek(0)
        lines = [line for line in self._said.read().decode(errors="replace").splitlines() if line.strip()]
        said = lines[-1].strip() if lines else f"ended with {code} and said nothing"
        full = any("No space left" in line for line in lines)
        return KdError.of(f"ffmpeg: {said}"[:300], "an ffmpeg with libx264 that can write the file",
                          "make room on the disk and try again" if full else "try again, or choose GIF or PNG")  # fmt: skip


class PillowGif:
    """A GIF without ffmpeg: each frame is written when it comes, the part of it that has changed."""

    def __init__(self, options: Options, table: Bytes, out: Path) -> None:
        self._options = options
        self._table = table
        self._file: IO[bytes] = out.open("wb")
        self._waiting: Bytes | None = None
        self._before: Bytes | None = None
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def write(self, pixels: Bytes) -> None:
        """See ``Encoder``; a frame is written when the next one comes, because the last one stays longer."""
        if self._waiting is not None:
            self._put(self._waiting, self._options.held_frames[0] if self._count == 0 else 0)
        self._waiting = pixels.copy()

    def close(self) -> None:
        """See ``Encoder``."""
        if self._waiting is not None:
            self._put(self._waiting, self._options.held_frames[1])
        self._file.write(GIF_END)
        self._file.close()

    def _put(self, pixels: Bytes, held: int) -> None:
        left, top, part = 0, 0, pixels
        if self._before is None:
            for block in GifImagePlugin.getheader(with_palette(pixels, self._table), info={"loop": 0})[0]:
                self._file.write(block)
        else:
            left, top, part = _changed(self._before, pixels)
        delay = self._moment(1 + held) - self._moment(0)
        for block in GifImagePlugin.getdata(with_palette(part, self._table), (left, top), duration=10 * delay, disposal=1):
            self._file.write(block)
        self._before = pixels
        self._count += 1

    def _moment(self, frames: int) -> int:
        """Return when, in 1/100 s, the frame is over that comes ``frames`` after this one begins: what is rounded evens out."""
        return round(100 * (self._count + frames) / self._options.fps)


def _changed(before: Bytes, now: Bytes) -> tuple[int, int, Bytes]:
    """Return the left column, the top row and the smallest part of ``now`` that has all that changed; one pixel for nothing."""
    other = now != before
    rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
    if not len(rows):
        return 0, 0, now[:1, :1]
    return int(columns[0]), int(rows[0]), np.ascontiguousarray(now[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def save_png(pixels: Bytes, table: Bytes, out: Path, *, title: str = "", comment: str = "") -> None:
    """Write one frame as PNG, with a palette: small and exact."""
    said = PngImagePlugin.PngInfo()
    for key, text in (("Title", title), ("Comment", comment)):
        if text:
            said.add_itxt(key, text)
    with_palette(pixels, table).save(out, format="PNG", pnginfo=said)


def with_palette(pixels: Bytes, table: Bytes) -> Image.Image:
    """Return a frame as Pillow's image."""
    image = Image.frombytes("P", (pixels.shape[1], pixels.shape[0]), pixels.tobytes())
    image.putpalette(table.tobytes())
    return image


def add_comment(gif: Path, text: str) -> None:
    """Write ``text`` into a finished GIF, where programs that ask for its comment find it."""
    said = text.encode()
    blocks = b"".join(bytes([len(part)]) + part for part in (said[i : i + 255] for i in range(0, len(said), 255)))
    with gif.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        assert file.read(1) == GIF_END
        file.seek(-1, os.SEEK_END)
        file.write(b"!\xfe" + blocks + b"\0" + GIF_END)
