"""How a race chart looks and how long it is: choices with defaults and bounds.

Reads: what it is given. Writes: nothing. Never: the data of a race.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from kdengine.errors import KdError
from kdengine.spec import problems_of

Kind = Literal["bars", "lines", "classic"]
Format = Literal["mp4", "gif", "png"]
Theme = Literal["light", "dark", "print"]
KINDS, FORMATS, THEMES = get_args(Kind), get_args(Format), get_args(Theme)
SIZES = {"1280x720": (1280, 720), "1920x1080": (1920, 1080), "1080x1080": (1080, 1080), "1080x1920": (1080, 1920),
         "800x450": (800, 450)}  # fmt: skip
USUAL_SIZE: dict[str, tuple[int, int]] = {"mp4": SIZES["1280x720"], "gif": SIZES["800x450"], "png": SIZES["1280x720"]}
USUAL_FPS: dict[str, int] = {"mp4": 30, "gif": 20, "png": 30}
WANTED_S, LEAST_S = 20.0, 4.0  # an animation of this length is neither a flicker nor a wait; a short race may be shorter


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("an even number: half of the pixels carry the colour of a video")
    return value


Pixels = Annotated[int, AfterValidator(_even)]


class Options(BaseModel):
    """How a race is drawn. Frozen. Every fault comes in one ``KdError``.

    Raises:
        KdError: with one ``Problem`` per faulty field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = Field("bars", description="bars, lines, or the unchanged picture of the package bar_chart_race")
    format: Format = Field("mp4", description="video, animated GIF, or the last frame")
    width: Pixels = Field(1280, ge=320, le=3840, description="pixels")
    height: Pixels = Field(720, ge=180, le=3840, description="pixels")
    fps: int = Field(30, ge=5, le=60, description="frames per second; a GIF counts in 1/100 s and ends at 50")
    steps: int | None = Field(None, ge=1, le=60, description="frames from one epoch to the next; none = about 20 s in all")
    hold_s: float = Field(2.0, ge=0, le=10, description="seconds that the last frame stays; the first stays a quarter of it")
    top: int = Field(12, ge=1, le=20, description="bars in view; those behind wait below the edge")
    axis: Literal["zoom", "zero"] = Field("zoom", description="the axis begins near the data, and says so, or at zero")
    axis_from: float | None = Field(None, description="where the axis begins instead, in the unit drawn")
    decimals: int | None = Field(None, ge=0, le=4, description="digits behind the point; none = as many as tell the values apart")
    easing: Literal["smooth", "linear"] = Field("smooth", description="how bars change places")
    theme: Theme = Field("light", description="print is for paper: black on white")
    caption: bool = Field(True, description="a line below that says what was averaged and which runs these are")
    highlight: tuple[str, ...] = Field((), max_length=2, description="names that keep their colour; the others turn grey")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise KdError(*problems_of(error, type(self))) from None
        if self.format == "gif" and self.fps > 50:
            raise KdError.of(f"{self.fps}", "up to 50 for a GIF: browsers play faster ones slowly", "choose 50", "fps")

    @classmethod
    def usual(cls, format: Format, **values: Any) -> Options:
        """Return the options with the size and speed that are usual for ``format``; ``values`` that are None do not count."""
        width, height = USUAL_SIZE[format]
        usual = {"format": format, "width": width, "height": height, "fps": USUAL_FPS[format]}
        return cls(**usual | {name: value for name, value in values.items() if value is not None})

    def steps_for(self, epochs: int) -> int:
        """Return the frames from one of ``epochs`` to the next."""
        wanted, least = (round(self.fps * seconds / max(1, epochs - 1)) for seconds in (WANTED_S, LEAST_S))
        return self.steps or min(60, max(2, min(20, wanted), least))

    def moving_frames(self, epochs: int) -> int:
        """Return the frames from the first epoch to the last, both included."""
        return 1 if self.format == "png" else (epochs - 1) * self.steps_for(epochs) + 1

    @property
    def held_frames(self) -> tuple[int, int]:
        """How many further times the first and the last frame are shown."""
        return (0, 0) if self.format == "png" else (round(self.hold_s / 4 * self.fps), round(self.hold_s * self.fps))

    def frames(self, epochs: int) -> int:
        """Return the frames of the whole file; a GIF holds a frame by its delay instead of repeating it."""
        return self.moving_frames(epochs) + (sum(self.held_frames) if self.format == "mp4" else 0)

    def seconds(self, epochs: int) -> float:
        """Return how long the animation lasts, in seconds."""
        return (self.moving_frames(epochs) + sum(self.held_frames)) / self.fps
