"""The files of docs/hosting, each judged by the program that reads it, and the guide that speaks of them."""

from __future__ import annotations

import base64
import configparser
import hashlib
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import streamlit
import typer

from kdengine import hosting, serve
from kdengine.cli import app as kdengine_app
from kdengine.errors import HomeError
from kdengine.hosting import Hosting, SignIn
from store.__main__ import app as store_app
from tests.hosting.lab import GUIDE, ROOT, SECRET, Site, caddyfile, changed, free_ports, nginx_files, nginx_folder, program

TEXT = (ROOT / "docs" / "hosting.md").read_text()
UNIT = GUIDE / "kd-explorer.service"
SIGN_INS = ("passwords", "oauth2-proxy", "app")
COUNTED = ("KD_HOME", "KD_BASE_URL", "CUDA_VISIBLE_DEVICES", "KD_GPUS")  # read elsewhere than in kdengine.hosting


@pytest.fixture
def site() -> Site:
    """Ports for a site that is not started."""
    return Site(*free_ports(3))


# ---- nginx and Caddy -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("sign_in", SIGN_INS)
def test_nginx_takes_its_files(site: Site, sign_in: str, tmp_path: Path) -> None:
    prefix = nginx_folder(tmp_path, site, sign_in)
    done = subprocess.run([program("nginx", "nginx"), "-t", *nginx_files(prefix)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr, done.stderr


@pytest.mark.slow
def test_caddy_takes_its_file(site: Site, tmp_path: Path) -> None:
    file = caddyfile(tmp_path, site, "ada@example.org JDJhJDE0JE5vdEFIYXNo\n")
    command = [program("caddy"), "validate", "--config", str(file), "--adapter", "caddyfile"]
    done = subprocess.run(command, capture_output=True, text=True, env={"HOME": str(tmp_path), "KD_PROXY_SECRET": SECRET})
    assert done.returncode == 0, done.stderr
    assert "Valid configuration" in done.stdout + done.stderr


def test_both_proxies_allow_pages_the_same_and_no_more_than_streamlit_needs() -> None:
    found = [re.search(r'Content-Security-Policy "([^"]+)"', (GUIDE / name).read_text()) for name in ("nginx.conf", "Caddyfile")]
    rules = [match[1].replace("$server_name", "HOST").replace("{http.request.host}", "HOST") for match in found if match]
    assert len(rules) == 2 and rules[0] == rules[1]
    page = (Path(streamlit.__file__).parent / "static/index.html").read_text()
    hashes = [hashlib.sha256(script.encode()).digest() for script in re.findall(r"<script>(.*?)</script>", page, re.S)]
    allowed = [base64.b64decode(text) for text in re.findall(r"'sha256-([^']+)'", rules[0])]
    assert hashes and sorted(hashes) == sorted(allowed), "another release of Streamlit has another script in its page"


def test_nginx_sets_what_the_app_believes() -> None:
    for sign_in in SIGN_INS:
        text = re.sub(" +", " ", (GUIDE / f"nginx-{sign_in}.conf").read_text())
        assert f"proxy_set_header {hosting.PROXY_HEADER} " in text, f"{sign_in} passes on what a visitor claims"
        assert "secret.conf;" in text or f'{hosting.SECRET_HEADER} ""' in text
    locations = re.findall(r"location [^{]+\{(?:[^{}]|\{[^{}]*\})*\}", (GUIDE / "nginx.conf").read_text())
    assert len(locations) > 5
    for location in locations:
        assert "proxy_set_header" not in location, "one header set in a location undoes all that the server sets"
        assert "add_header" not in location


# ---- the service ---------------------------------------------------------------------------------------------------------------


def unit() -> dict[str, str]:
    """The [Service] section; of a line that is there several times the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return dict(parser["Service"])


@pytest.mark.slow
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    mine = tmp_path / UNIT.name
    here = {"/opt/kd-explorer/.venv/bin/python": "/usr/bin/env", "User=kd": "User=root", "Group=kd": "Group=root"}
    mine.write_text(changed(UNIT.read_text(), here))
    done = subprocess.run([program("systemd-analyze"), "verify", str(mine)], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_trainings_survive_a_restart_and_keep_their_gpu() -> None:
    service = unit()
    assert (service["KillMode"], service["OOMPolicy"]) == ("process", "continue")
    assert int(service["RestartPreventExitStatus"]) == 2, "what kdengine.serve returns when it is configured wrongly"
    for option in ("PrivateDevices", "ProtectClock", "DevicePolicy", "DeviceAllow", "MemoryDenyWriteExecute", "PrivateTmp"):
        assert option not in service, f"{option} takes the GPU or /tmp from a training"


def test_the_service_may_write_where_the_app_keeps_things() -> None:
    service, env = unit(), environment()
    may = service["ReadWritePaths"].split()
    assert Path(env["KD_HOME"]).is_relative_to(may[0]) and "/tmp" in may, "the rest of the disk is read-only"
    calls = set(service["SystemCallFilter"].split())
    assert {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"} <= calls, "the walls around SQL need them"
    argv = shlex.split(service["ExecStart"])
    assert argv[:3] == [f"{service['WorkingDirectory']}/.venv/bin/python", "-m", "kdengine.serve"]
    asked = serve._parser().parse_args(argv[3:])
    assert asked.exact_port and f"127.0.0.1:{asked.port}" in (GUIDE / "nginx.conf").read_text()
    assert f"127.0.0.1:{asked.port}" in (GUIDE / "Caddyfile").read_text()


# ---- settings and secrets ------------------------------------------------------------------------------------------------------


def environment(commented: bool = False) -> dict[str, str]:
    """What kd-explorer.env sets; with ``commented`` what it offers besides."""
    lines = re.findall(rf"^{'#?' if commented else ''}([A-Z_]+)=(.*)$", (GUIDE / "kd-explorer.env").read_text(), re.M)
    return dict(lines)


def test_the_environment_is_complete_but_for_the_secret() -> None:
    assert environment(commented=True).keys() <= {*hosting.VARIABLES, *COUNTED}
    with pytest.raises(HomeError) as found:
        Hosting.find(environment())
    assert [problem.field for problem in found.value.problems] == ["KD_PROXY_SECRET"]
    assert Hosting.find({**environment(), "KD_PROXY_SECRET": SECRET}).sign_in is SignIn.PROXY


def test_every_variable_is_explained() -> None:
    for name in (*hosting.VARIABLES, "KD_HOME", "KD_BASE_URL", "CUDA_VISIBLE_DEVICES"):
        assert f"`{name}" in TEXT, f"docs/hosting.md says nothing about {name}"


def test_the_example_of_secrets_lacks_the_secrets_and_nothing_else() -> None:
    text = (GUIDE / "secrets.toml.example").read_text()

    def wrong(secrets: dict[str, object]) -> list[str]:
        found = hosting.faults(Hosting(sign_in=SignIn.OIDC), address="127.0.0.1", secrets=secrets, authlib=True)
        return [problem.field for problem in found]

    assert wrong(tomllib.loads(text)) == ["auth.cookie_secret", "auth.client_secret"]
    assert wrong(tomllib.loads(text.replace('_secret = ""', f'_secret = "{SECRET}"'))) == []


# ---- the container -------------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The steps of the Containerfile, comments and line breaks gone."""
    lines = re.sub(r"^#.*\n", "", (GUIDE / "Containerfile").read_text(), flags=re.M).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


def test_the_container_starts_what_the_server_understands() -> None:
    steps = dict(instructions())
    argv = [*tomllib.loads(f"a = {steps['ENTRYPOINT']}")["a"], *tomllib.loads(f"a = {steps['CMD']}")["a"]]
    assert argv[1:3] == ["-m", "kdengine.serve"]
    asked = serve._parser().parse_args(argv[3:])
    assert (asked.address, asked.exact_port, str(asked.port)) == ("0.0.0.0", True, steps["EXPOSE"])
    assert steps["USER"].isdigit() and steps["USER"] != "0"
    assert steps["VOLUME"] in steps["ENV"]
    health = steps["HEALTHCHECK"]
    assert f":{asked.port}/healthz" in health
    compile(tomllib.loads(f"a = {health[health.index('[') :]}")["a"][2], "healthcheck", "exec")


def test_the_container_takes_no_secret_and_no_environment_along() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "**/secrets.toml"} <= set(ignored)
    copied = [rest for word, rest in instructions() if word == "COPY"]
    assert copied == ["requirements*.txt ./", ". ."]
    for needed in ("app.py", "pages", "kdengine", "store", ".streamlit", "README.md", "LICENSE", "pyproject.toml"):
        assert (ROOT / needed).exists() and needed not in ignored


# ---- the guide -----------------------------------------------------------------------------------------------------------------


def test_the_guide_speaks_of_every_file_and_repeats_none() -> None:
    for path in GUIDE.iterdir():
        assert f"(hosting/{path.name})" in TEXT, f"docs/hosting.md does not link {path.name}"
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.M | re.S):
        assert kind in ("sh", "json", "text"), f"a {kind} block: configuration stands in docs/hosting alone, where it is tested"
        assert block.strip()


def test_every_command_of_the_guide_exists() -> None:
    known = {"kdengine": typer.main.get_command(kdengine_app), "store": typer.main.get_command(store_app)}
    used = re.findall(r"(?:-m|kd) (kdengine|store) ([a-z]+)", TEXT)
    assert len(used) > 5
    for room, command in used:
        assert command in known[room].commands, f"python -m {room} {command}"
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    wanted = re.findall(r"(?:`|-u kd )make (?:-C \S+ )?([a-z-]+)", TEXT)
    assert len(wanted) > 4 and set(wanted) <= targets
