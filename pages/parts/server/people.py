"""The tab on people: who has which role, and how much members may take.

Reads: the list of people, run folders through the storage. Writes: the list, through ``actions_people``. Never: passwords.
"""

from __future__ import annotations

import functools
from typing import Any

import streamlit as st

from kdengine import access, storage
from kdengine.access import Entry, People, Quota, Role
from kdengine.errors import KdError
from kdengine.hosting import Mode, SignIn, Strangers
from kdengine.storage import Taken
from pages.parts import actions_people, blocks, pulse, quotas, state, who, words

NAME = "people"  # of what the buttons do, see ``state.attempt``
ROLES = {
    Role.VIEWER: "reads, asks in SQL, exports",
    Role.MEMBER: "launches runs too, and looks after their own",
    Role.ADMIN: "does everything",
}
STRANGERS = {
    Strangers.NONE: "Whoever is not on this list sees nothing.",
    Strangers.VIEWER: "Whoever signs in and is not on this list may read.",
    Strangers.PUBLIC: "Everybody may read, signed in or not.",
}
LIMITS = {
    "queued_runs": ("Runs waiting", 1.0), "exports": ("Exports waiting", 1.0), "gpu_hours": ("GPU hours", 1.0),
    "disk_mib": ("Disk, MiB", 1024.0),
}  # fmt: skip


def draw() -> None:
    """Draw the tab."""
    st.markdown(how_they_come())
    blocks.problems(state.fault(NAME), "Nothing was changed")
    try:
        people = access.load(pulse.of().home)
    except KdError:  # said at the head of the page
        return
    taken = {found.owner: found for found in storage.usage(pulse.of().home)}
    for entry in sorted(people.entries, key=lambda entry: (-entry.role.rank, entry.name)):
        _person(entry, people, taken.get(entry.name, Taken(entry.name)))
    with st.container(horizontal=True):
        _add()
        _limits_for_all(people)
    listed = ", ".join(words.verbatim(name) for name in sorted(who.of().admins))
    blocks.note(f"Always admins, by KD_ADMINS: {listed}." if listed else "KD_ADMINS names nobody.",
                "A changed role counts at that person's next click.")  # fmt: skip


def how_they_come() -> str:
    """Say in a sentence how people are recognised here, and what those may do who are not on the list."""
    hosting = who.of()
    if hosting.mode is Mode.DEMO:
        return "This is a demo: everybody reads, and roles mean nothing."
    if hosting.sign_in is SignIn.NONE:
        return (
            "Nobody signs in here: one person uses this app, on this machine, and may do everything. Roles count with a sign-in."
        )
    how = "with the provider of the lab" if hosting.sign_in is SignIn.OIDC else f"by the proxy ({hosting.proxy_header})"
    return f"People sign in {how}. {STRANGERS[hosting.strangers]}"


def _person(entry: Entry, people: People, taken: Taken) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap=None, width="stretch"):
            st.markdown(f"**{entry.name}** :gray-badge[{entry.role.value}]&ensp;{words.verbatim(entry.who)}")
            said = [words.count(taken.runs, "run"), words.size(taken.mib)] if taken.runs else ["no runs"]
            limits = quotas.used(people.quota_of(entry), taken) if entry.role is Role.MEMBER else []
            st.caption("; ".join([", ".join(said), *limits]))
        with st.popover("Change", key=f"change-{entry.name}", icon=":material/edit:"):
            _change(entry, people)


def _change(entry: Entry, people: People) -> None:
    if access.is_same(who.person(), entry.who):
        st.caption("Another admin can change your role, so that one is always left.")
    with st.form(f"person-{entry.name}", border=False):
        _role(f"role-{entry.name}", entry.role)
        _limits(f"limit-{entry.name}", entry.quota, people.quota_of(None))
        act = functools.partial(_put, entry)
        st.form_submit_button("Save", on_click=state.attempt, args=(act, NAME), width="stretch")
    act = functools.partial(actions_people.remove_person, entry.who)
    st.button(
        "Take off the list", key=f"remove-{entry.name}", icon=":material/person_remove:", on_click=state.attempt,
        args=(act, NAME), width="stretch", help="Runs stay, and the name stays reserved for this person.",
    )  # fmt: skip


def _add() -> None:
    box = st.popover("Add somebody", key="add-person", icon=":material/person_add:", type="primary")
    with box, st.form("new-person", border=False):
        st.text_input("Address or account", key="new-who", max_chars=254, placeholder="ada@example.org")
        st.text_input("Short name", key="new-name", max_chars=24, placeholder="made from the address",
                      help="Everybody may see it; it stands on runs. Small letters, digits, _ and -")  # fmt: skip
        _role("role-new", Role.MEMBER)
        st.form_submit_button("Add", on_click=state.attempt, args=(_new, NAME), width="stretch")


def _limits_for_all(people: People) -> None:
    with st.popover("Limits for all members", key="limits", icon=":material/speed:"), st.form("limits-form", border=False):
        _limits("limit-all", people.quota, Quota())
        st.form_submit_button("Save", on_click=state.attempt, args=(_put_all, NAME), width="stretch")


def _role(key: str, role: Role) -> None:
    options = [role.value for role in ROLES]
    st.segmented_control("Role", options, default=role.value, key=key, required=True, help=meanings())


def meanings() -> str:
    """Return what each role may do, in a sentence."""
    return "; ".join(f"{role.value}: {meaning}" for role, meaning in ROLES.items())


def _limits(place: str, own: Any, others: Quota) -> None:
    """Draw a field for each limit. One that is empty is as for all others; 0 is none at all."""
    columns = st.columns(2, gap="small", wrap=False)
    for number, (name, (title, step)) in enumerate(LIMITS.items()):
        freed = own.get(name, 0) is None
        usual = None if freed else getattr(others, name)
        whole = name in ("queued_runs", "exports")
        value, kind = own.get(name), int if whole else float
        columns[number % 2].number_input(
            title, min_value=kind(0), value=None if value is None else kind(value), step=kind(step), key=f"{place}-{name}",
            placeholder="no limit" if usual is None else f"{usual:g}", format=None if whole else "%g",
            help="No limit for this person" if freed
            else "Empty: as for all members" if usual is None else f"Empty: {usual:g}, as for all members",
        )  # fmt: skip


def _chosen(place: str) -> dict[str, Any]:
    found = {name: st.session_state[f"{place}-{name}"] for name in LIMITS}
    return {name: value for name, value in found.items() if value is not None}


def _new() -> None:
    who_, name = (str(st.session_state[key] or "").strip() for key in ("new-who", "new-name"))
    actions_people.put_person(who_, st.session_state["role-new"], name)


def _put(entry: Entry) -> None:
    freed = {name: None for name, limit in entry.quota.items() if limit is None}  # written by hand: this form cannot say it
    chosen = _chosen(f"limit-{entry.name}")
    actions_people.put_person(entry.who, st.session_state[f"role-{entry.name}"], quota=freed | chosen)


def _put_all() -> None:
    actions_people.limit_all(_chosen("limit-all"))
