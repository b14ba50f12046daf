"""What all commands share: faults said in three parts, the home, the option for JSON.

Reads: the environment (through ``Home``). Writes: the terminal. Never: torch; a command of its own.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kdengine import terminal
from kdengine.errors import KdError, Problem, RunBusy, RunFailed
from kdengine.home import Home

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]


class Commands(TyperGroup):
    """A group of commands that explains faults in three parts instead of a traceback."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the command; exit 2 for a wrong wish, 1 for one that cannot be fulfilled now, or whose reader has gone."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # while a closed pipe (``| head``) can still be told from a full disk
            return result
        except KdError as error:
            terminal.show_problems(error.problems)
            raise typer.Exit(1 if isinstance(error, RunBusy | RunFailed) else 2) from None
        except BrokenPipeError:
            raise  # typer ends quietly then
        except OSError as error:
            given = f"{error.filename or 'the disk'}: {error.strerror or error}"
            terminal.show_problems([Problem("", given, "a home that can be written", "make room, or set KD_HOME elsewhere")])
            raise typer.Exit(1) from None


def find_home(quiet: bool = False) -> Home:
    """Return the home, and say where it is unless ``quiet``.

    Raises:
        HomeError: it cannot be used.
    """
    home = Home.find()
    if not quiet:
        terminal.err.print(f"[dim]KD_HOME {home.root}[/]", highlight=False, soft_wrap=True)
    return home
