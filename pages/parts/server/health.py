"""The tab on health: whether the server is well, what the doctor says of the home, the last comparison of the store, backups.

Reads: the pulse, the home through the doctor, backups, the last result of verify. Writes: nothing; starts backups and comparisons
through ``actions_server``. Never: waits for either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import pandas as pd
import streamlit as st

from kdengine import doctor_facts, slots
from kdengine.doctor import Finding, Level
from kdengine.errands import Standing
from kdengine.errors import KdError
from kdengine.home import Home
from pages.parts import actions_server, blocks, health, pulse, state, tables, words
from store import backup, nightly, sandbox, verify
from store.backup import Backup
from store.sandbox import QueryError

SEEN_S, WALLS_S = 10, 600  # for so long a look of the doctor is good, and one at what a process of SQL is shut in by
NAME = "health"  # of what the buttons do, see ``state.attempt``
BELOW = {"store", "backups"}  # checks of the doctor whose matter has a heading of its own here
MARKS = {Level.OK: ":green[✓]", Level.ADVICE: ":orange[○]", Level.BROKEN: ":red[✕]"}
CHECKS = {
    "pulse": "the background thread beats", "store": "results come in", "snapshot": "results are published", "disk": "disk",
    "queue": "queue",
}  # fmt: skip


def draw() -> None:
    """Draw the tab."""
    home = pulse.of().home
    blocks.problems(state.fault(NAME), "It was not started")
    now()
    looked([*(finding for finding in seen(str(home.root)) if finding.check not in BELOW), *walls(str(home.root))])
    st.subheader("Store against run folders", anchor=False)
    compared(verify.last(home))
    _running(verify.standing, "verify", "Compare now", ":material/fact_check:", actions_server.verify_store)
    st.subheader("Backups", anchor=False)
    shelf(backup.listed(backup.folder_of(home)))
    _running(nightly.standing, "backup", "Back up now", ":material/archive:", actions_server.back_up)
    troubles()


def now() -> None:
    """Say in a line what ``/healthz`` says."""
    checks = health.of(pulse.of()).checks
    wrong = [CHECKS.get(name, name) for name, check in checks.items() if not check["ok"]]
    if wrong:
        st.warning(f"Not well: {words.listed(wrong)}.", icon=":material/monitor_heart:")
    else:
        free, since = words.size(checks["disk"]["free_mib"]), checks["pulse"]["last_beat_s"]
        role = "writes the results" if checks["store"]["role"] == "writer" else "reads what another process writes"
        st.markdown(
            f":green[✓] This server is well: it {role}, its last beat was {since:.0f} s ago, {free} of its disk are free."
        )


@st.cache_data(ttl=SEEN_S, max_entries=4, show_spinner=False)
def seen(root: str) -> list[Finding]:
    """Return what the doctor finds in the home ``root``."""
    return doctor_facts.of_home(pulse.of().home)


@st.cache_data(ttl=WALLS_S, max_entries=4, show_spinner=False)
def walls(root: str) -> list[Finding]:
    """Return what keeps free SQL in on this machine; nothing before there are results to ask about."""
    try:
        held = sandbox.isolation(pulse.of().home)
    except QueryError:
        return []
    missing = [wall for wall, holds in held.items() if not holds]
    if not missing:
        return [Finding("SQL", Level.OK, f"statements are shut in by {words.count(len(held), 'wall')} of the kernel")]
    return [Finding(
        "SQL", Level.ADVICE, f"statements run without: {', '.join(missing)}", "all walls of the kernel around each statement",
        "use Linux 5.13 or newer with Landlock and seccomp; until then DuckDB's own settings keep statements in",
    )]  # fmt: skip


def looked(found: Sequence[Finding]) -> None:
    """List what the doctor found: what asks for something to be done first, the rest in a drawer."""
    for finding in found:
        if finding.level is not Level.OK:
            said = f"{MARKS[finding.level]} **{finding.check}**: {words.escaped(finding.found)}"
            st.markdown(f"{said}  \n:gray[allowed: {words.escaped(finding.allowed)}]  \n{words.escaped(finding.do)}")
    fine = [finding for finding in found if finding.level is Level.OK]
    box = blocks.drawer(f"{words.count(len(fine), 'check')} without a finding", "health-fine")
    if box is not None:
        box.markdown("  \n".join(f"{MARKS[f.level]} **{f.check}**: {words.escaped(f.found)}" for f in fine))
    blocks.note("`python -m kdengine doctor` also looks at packages, GPU and driver, ffmpeg, sign-in and secrets.")


def compared(found: verify.Verified | None) -> None:
    """Say what the last comparison found."""
    if found is None:
        st.markdown("The store has not been compared with the run folders yet.")
        return
    when = words.ago(datetime.fromisoformat(found.at))
    what = f"{words.count(found.runs, 'run')} and {words.count(found.epochs, 'epoch')}, {when}"
    if found.findings:
        blocks.problems(found.findings, f"{words.count(len(found.findings), 'finding')} in {what}")
    else:
        st.markdown(f"{MARKS[Level.OK]} Sound: {what}.")
    if found.notes:
        blocks.note(*(f"{note[0].upper()}{note[1:]}." for note in found.notes[:5]))


def shelf(there: list[Backup]) -> None:
    """List the backups, newest first, and say when the next one is made."""
    if not there:
        st.markdown("There is no backup yet.")
    else:
        blocks.table(backups(there), "backups")
    try:
        settings = slots.read_settings(pulse.of().home)
    except KdError:  # the doctor has said it
        return
    when = (
        "The app makes one every night." if settings.backups else 'Nightly backups are switched off ("backups" in settings.json).'
    )
    kept = f"The newest of each of the last {words.count(settings.backup_keep_days, 'day')} and "
    blocks.note(when, kept + f"{words.count(settings.backup_keep_weeks, 'week')} is kept.",
                "`python -m store restore newest` brings back the runs that are missing.")  # fmt: skip


def backups(there: list[Backup]) -> tables.Table:
    """Return the backups as a table."""
    rows = [
        {
            "Made": words.ago(made.at), "Runs": made.counts.get("runs", 0), "Epochs": made.counts.get("epochs", 0),
            "Size": words.size(made.bytes / 2**20), "Weights": "yes" if made.weights else "", "Name": made.name,
        }
        for made in reversed(there)
    ]  # fmt: skip
    columns = {
        "Made": tables.Column("text", "when it was made"),
        "Runs": tables.Column("number", "runs in it"),
        "Epochs": tables.Column("number", "epochs of all runs in it"),
        "Size": tables.Column("text", "what it takes on the disk"),
        "Weights": tables.Column("text", "whether the best weights of each run are in it"),
        "Name": tables.Column("text", "its folder in backups/"),
    }
    return tables.Table(pd.DataFrame(rows), columns)


def _running(standing: Callable[[Home], Standing], key: str, word: str, icon: str, start: Callable[[], None]) -> None:
    """Draw the button that starts a piece of work, or how far it is, live."""
    home = pulse.of().home
    busy = standing(home).going

    def body() -> None:
        """The live part."""
        how = standing(home)
        state.settle(busy, how.going)
        if how.going:
            st.progress(how.share, text="Under way" + (f", {words.roughly(how.left_s)} left" if how.left_s else ""))
            return
        blocks.problems(how.problems, "The last one did not end well")
        st.button(word, key=f"{key}-now", icon=icon, on_click=state.attempt, args=(start, NAME))

    state.live(body, busy=busy)


def troubles() -> None:
    """List what went wrong behind the pages since the server started, newest first; the head of the page has the last three."""
    found = list(pulse.of().troubles)
    box = blocks.drawer(f"{words.count(len(found), 'fault')} since the server started", "health-faults") if found else None
    if box is not None:
        for trouble in reversed(found):
            said = words.problem_list(trouble.problems, f"While {trouble.doing} ({words.ago(trouble.at)})")
            box.markdown(said)
