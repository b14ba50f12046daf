"""An errand that does what ``FAKE_ERRAND`` says: how long it takes, how it ends. ``python -m fake_errand toy work``."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from kdengine.errands import Errand, Recorder
from kdengine.errors import KdError
from kdengine.home import Home

TOY = Errand("toy", ("toy", "work"))


def main() -> None:
    """Leave a mark, work, and take the mark away; fail where the plan says so."""
    plan = json.loads(os.environ["FAKE_ERRAND"])
    home = Home.find()
    mark = home.root / "begun"
    with Recorder(home, TOY) as note:
        mark.write_text("")
        if plan.get("deaf"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            note.step("work", 40)
            until = time.monotonic() + plan.get("takes_s", 0.0)
            note._written = 0.0  # the first report is not held back
            note(10, 40)
            while time.monotonic() < until:
                time.sleep(0.01)
            if plan.get("fault"):
                raise {"kd": KdError.of("a lamp", "a fish", "bring a fish"), "os": OSError(28, "No space left on device"),
                       "other": ZeroDivisionError("by zero")}[plan["fault"]]  # fmt: skip
        finally:
            mark.unlink()


if __name__ == "__main__":
    sys.stderr.write("the errand has begun\n")
    sys.stderr.flush()
    main()
