"""What stands in place of the pages: what is wrong with the configuration, or the way to sign in; and who is signed in.

Reads: who asks. Writes: nothing; sends the browser to the provider of the sign-in. Never: results, run folders.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from kdengine import access
from kdengine.access import Role
from kdengine.hosting import Mode, SignIn
from pages.parts import who, words

ROLES = {
    Role.VIEWER: "You can read everything, ask in SQL and export.",
    Role.MEMBER: "You can also launch runs, and stop, label and remove your own.",
    Role.ADMIN: "You can do everything, and look after people and storage.",
}


def closed() -> Callable[[], None] | None:
    """Return what is drawn in place of every page for who asks; None where they may come in."""
    if who.faults():
        return _faults
    return None if who.may("read") else _outside


def refused(title: str, action: str) -> Callable[[], None]:
    """Return what stands at the address of a page that is for those who may do ``action``."""

    def page() -> None:
        demo = who.of().mode is Mode.DEMO
        offered = "This demo shows recorded runs" if demo else f"This page is for {access.ACTIONS[action].least.value}s"
        st.title(title, anchor=False)
        st.markdown(f":gray[{offered}. What you may see and do is in the list of pages.]")
        st.page_link("pages/home.py", label="Go to the first page", icon=":material/arrow_forward:")

    return page


def _faults() -> None:
    st.title("KD Explorer is not configured rightly", anchor=False)
    st.error(words.problem_list(who.faults(), "Nothing is shown before this is put right"), icon=":material/error:")


def _outside() -> None:
    st.space("large")
    _, middle, _ = st.columns([1, 2, 1])
    with middle, st.container(border=True, horizontal_alignment="center", gap="medium"):
        st.title("KD Explorer", anchor=False, text_alignment="center")
        sentence, offer = _why()
        st.markdown(sentence, text_alignment="center")
        with st.container(horizontal=True, horizontal_alignment="center"):
            if offer:
                _sign_in("entrance", "primary")
            elif who.person().who:
                _sign_out()


def _why() -> tuple[str, bool]:
    """Return why somebody stands outside, and whether signing in may help."""
    person, kind = who.person(), who.of().sign_in
    if person.who:
        return f"You are signed in as {words.verbatim(person.who)}. An admin has to let you in first.", False
    if kind is SignIn.OIDC:
        claims = who.claimed()
        if claims.get("is_logged_in"):
            return "Your sign-in has no verified e-mail address, so nobody can be recognised by it.", True
        return "Results of knowledge distillation, for members of the lab.", True
    if kind is SignIn.PROXY:
        return "This address is for the proxy of the lab. Open the one that you were given.", False
    return (
        "Without sign-in this app serves the machine that it runs on, and nobody else. Open it there as localhost, or let an "
        "admin set up a sign-in (docs/hosting.md).",
        False,
    )


def card() -> None:
    """Draw in the sidebar who is signed in, what that allows, and the way in or out; nothing where nobody signs in.

    Whoever stands outside finds the way in on the page itself.
    """
    person = who.person()
    if not who.signs_in() or (not person.who and not (who.providers() and who.may("read"))):
        return
    with st.sidebar, st.container(key="who", gap="small"):
        if person.who:
            role = person.role.value.capitalize()
            st.markdown(f":material/person: **{person.name}** :gray-badge[{role}]", help=ROLES.get(person.role))
            _sign_out()
        else:
            st.caption("You are reading as a visitor.")
            _sign_in("sidebar", "secondary")


def _sign_out() -> None:
    if who.providers():
        st.button("Sign out", key="sign-out", icon=":material/logout:", type="tertiary", on_click=st.logout)


def _sign_in(place: str, kind: str) -> None:
    for provider, title in who.providers().items():
        label = f"Sign in with {title}" if title else "Sign in"
        arguments = (provider,) if provider else ()
        st.button(
            label, type=kind, icon=":material/login:", key=f"sign-in-{place}-{provider}", on_click=st.login, args=arguments
        )  # fmt: skip
