"""The commands about people: who may do what in a hosted app, and what they did.

Reads: the list of people, the audit log. Writes: the list; the terminal. Never: torch.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from kdengine import access, audit, terminal
from kdengine.access import Entry, Role
from kdengine.cli_frame import AsJson, Commands, find_home
from kdengine.terminal import out

SHELL = "shell"  # who has one owns the folder: no sign-in is needed, and none is known
people_app = typer.Typer(cls=Commands, help="Who may do what in a hosted app: list, add, remove.")
Limit = Annotated[float | None, typer.Option(min=0, help="A limit of their own; left out, that for all members holds.")]


def add_to(app: typer.Typer) -> None:
    """Give ``app`` these commands."""
    app.add_typer(people_app, name="people")
    app.command("audit")(audit_)


@people_app.callback(invoke_without_command=True)
def people(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Who may do what in a hosted app: list, add, remove."""
    if ctx.invoked_subcommand is None:
        list_people(as_json)


@people_app.command("list")
def list_people(as_json: AsJson = False) -> None:
    """List the people, admins first. KD_ADMINS are admins besides, wherever the app runs with it."""
    found = access.load(find_home(as_json))
    cards = [_card(entry) for entry in sorted(found.entries, key=lambda entry: (-entry.role.rank, entry.name))]
    if cards or as_json:
        terminal.show_cards(cards, ("name", "role", "who", "quota"), as_json)
    else:
        out.print("Nobody is on the list: python -m kdengine people add ada@example.org --role member", highlight=False)


@people_app.command("add")
def add_person(
    who: Annotated[str, typer.Argument(help="Address or account that signs in.")],
    role: Annotated[Role, typer.Option(help="What they may do.")] = Role.MEMBER,
    name: Annotated[str, typer.Option(help="Short name that everybody may see; default: made from the address.")] = "",
    queued_runs: Limit = None,
    gpu_hours: Limit = None,
    exports: Limit = None,
    disk_mib: Limit = None,
) -> None:
    """Add somebody, or change the role and limits of somebody who is there."""
    home = find_home()
    given = {"queued_runs": queued_runs, "gpu_hours": gpu_hours, "exports": exports, "disk_mib": disk_mib}
    quota = {limit: value for limit, value in given.items() if value is not None}
    entry = access.put(home, who, role, name, quota or None)
    audit.note(home, SHELL, "people", f"{entry.who} is now {entry.role.value}")
    out.print(f"{entry.name} ({entry.who}) is now {entry.role.value}", highlight=False, markup=False, soft_wrap=True)


@people_app.command("remove")
def remove_person(who: Annotated[str, typer.Argument(help="Address, account or short name.")]) -> None:
    """Take somebody off the list. Their runs stay, and their short name stays theirs."""
    home = find_home()
    entry = access.remove(home, who)
    audit.note(home, SHELL, "people", f"{entry.who} removed")
    out.print(f"{entry.name} ({entry.who}) is off the list", highlight=False, markup=False, soft_wrap=True)


def audit_(
    who: Annotated[str, typer.Option(help="Only of this identity.")] = "",
    action: Annotated[str, typer.Option(help="Only of this kind, such as launch.")] = "",
    every: Annotated[bool, typer.Option("--all", help="All lines, not only the newest 50.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what was done through a hosted app, newest first."""
    lines = audit.read(find_home(as_json), 10**9 if every else 50, who=who, action=action)
    if lines or as_json:
        terminal.show_cards([asdict(line) for line in lines], ("at", "who", "action", "what"), as_json)
    else:
        out.print("Nothing was done yet.", highlight=False)


def _card(entry: Entry) -> dict[str, Any]:
    return entry.model_dump(mode="json")
