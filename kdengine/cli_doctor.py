"""``python -m kdengine doctor``: whether everything that KD Explorer needs is here and works, as a table or JSON.

Reads: what ``doctor_facts`` reads. Writes: the terminal. Never: torch in this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from kdengine import terminal
from kdengine.cli_frame import AsJson
from kdengine.terminal import err, out

if TYPE_CHECKING:
    from kdengine.doctor import Finding

COLOURS = {"ok": "green", "advice": "yellow", "broken": "bold red"}


def add_to(app: typer.Typer) -> None:
    """Give ``app`` the command."""
    app.command()(doctor)


def doctor(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the app.")] = 8501, as_json: AsJson = False
) -> None:
    """Look at software, machine, configuration and KD_HOME. Exits 0, or 1 where something does not work; says what mends it."""
    from kdengine import doctor_facts  # late: other commands start without it

    with err.status("looking"):
        found = doctor_facts.examine(port)
    if as_json:
        terminal.show_json([finding.as_dict() for finding in found])
    else:
        out.print(table(found))
    raise typer.Exit(1 if any(finding.level == "broken" for finding in found) else 0)


def table(found: Sequence[Finding]) -> Table:
    """Return the findings as a table: each with what is allowed and what to do, where it is not ok."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("check", "", "found"):
        shown.add_column(name, style="dim" if name == "check" else "", overflow="fold", no_wrap=name != "found")
    for finding in found:
        said = Text(finding.found)
        if finding.level != "ok":
            said.append(f"\n  allowed: {finding.allowed}\n  next: {finding.do}", "dim")
        shown.add_row(finding.check, Text(finding.level.value, COLOURS[finding.level]), said)
    return shown
