"""The facts of ``python -m kdengine doctor``: looks at machine, software and KD_HOME, and asks ``doctor`` what they mean.

What may take the looker down, torch and ffmpeg, is tried in child processes. A look that fails is a finding like any other.

Reads: packages' metadata, the driver, ``requirements.txt``, Streamlit's configuration, KD_HOME, ``/healthz`` on this machine.
Writes: a file for a moment, to see that it can. Never: torch in this process; the results database; a secret in a text.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from kdengine import access, doctor, errands, hosting, serve, startup, torch_pair
from kdengine.doctor import Build, Driver, Finding, Level, Lock, Stuck
from kdengine.errors import KdError
from kdengine.home import Home, disk_type
from kdengine.hosting import Hosting, Mode
from kdengine.rundir import RunDir, run_dirs
from kdengine.slots import read_settings, slots
from kdengine.status import RunStatus, is_held, is_here, is_locked, status_of, teacher_status

ROOT = serve.APP.parent
FONTS = ("Inter-Regular.otf", "Inter-SemiBold.otf", "NotoSansCJKsc-Regular.otf")
MOMENTS = ("queue", "race", "labels", "views", "people")
SILENT_S = 3600.0  # a worker notes its progress every second or so
LOAD_S, RUN_S, ANSWER_S = 120.0, 20.0, 3.0
STAMP = "%Y%m%dT%H%M%SZ"  # names of backups
BACKUP = errands.Errand("backup", ("backup",), module="store")
_TORCH = torch_pair.PROBE + "; import json; print(json.dumps([torch.version.cuda, torch.cuda.device_count()]))"
_FFMPEG = (
    "import imageio_ffmpeg, subprocess; exe = imageio_ffmpeg.get_ffmpeg_exe(); "
    "print(subprocess.run([exe, '-version'], capture_output=True, text=True, check=True).stdout.splitlines()[0])"
)
_LINE = re.compile(r"([A-Za-z0-9_.-]+)\s*([<>=!][^#;]*?)?\s*(?:[#;].*)?")

Look = Callable[[], Iterable[Finding]]


def examine(port: int = 8501, environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Look at everything, which takes some seconds, and return what was found, in the order of importance to a reader."""
    hosted = _hosted(environ)
    trains = hosted is None or hosted.mode is Mode.LAB
    build, gpus = torch_build() if trains else None, driver()
    looks: dict[str, Look] = {
        "Python": lambda: [doctor.python(tuple(sys.version_info[:3]))],
        "packages": lambda: _packages(trains),
        "torch": lambda: [doctor.torch(build, trains)],
        "GPU": lambda: [doctor.gpu(gpus, build, trains)],
        "ffmpeg": lambda: [doctor.ffmpeg(ffmpeg_says())],
        "fonts": lambda: [doctor.fonts(_font_sizes())],
        "hosting": lambda: _hosting(environ),
        "secrets": lambda: doctor.secrets(_rights()),
        "port": lambda: [doctor.port(port, serve.is_free(port), health_of(port))],
    }
    found = [finding for name, look in looks.items() for finding in _seen(name, look)]
    try:
        home = Home.find()
    except KdError as error:
        return [*found, *doctor.faults("KD_HOME", error.problems, "")]
    return [*found, *of_home(home)]


def of_home(home: Home) -> list[Finding]:
    """Return what is found in the home and on its disk; quick, for a page too."""
    looks: dict[str, Look] = {
        "KD_HOME": lambda: doctor.faults("KD_HOME", _problems(lambda: startup.demand_writable(home.root)), "can be written"),
        "disk": lambda: doctor.disk(*_disk(home), os.environ.get("KD_ALLOW_NETWORK_DISK") == "1"),
        "memory": lambda: [_memory(home)],
        "clock": lambda: [doctor.clock(time.time(), psutil.boot_time(), newest_file(home))],
        "settings": lambda: doctor.faults("settings", _problems(lambda: read_settings(home)), "settings.json is as it should be"),
        "people": lambda: doctor.faults("people", _problems(lambda: access.load(home)), "people.json is as it should be"),
        "locks": lambda: doctor.locks(held_locks(home)),
        "runs": lambda: _runs(home),
        "backups": lambda: _backups(home),
        "store": lambda: [doctor.verified(*_verified(home))],
    }
    return [finding for name, look in looks.items() for finding in _seen(name, look)]


def _seen(name: str, look: Look) -> list[Finding]:
    try:
        return list(look())
    except Exception as error:  # a check that fails says so; the others go on
        given = f"could not be looked at ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
        return [Finding(name, Level.BROKEN, given, "something that can be looked at", "mend that first, then run doctor again")]


def _problems(look: Callable[[], Any]) -> list[Any]:
    faults = startup.Faults()
    faults.of(look)
    return faults.found


# ---- software ----------------------------------------------------------------------------------------------------------------


def _packages(trains: bool) -> Iterator[Finding]:
    wanted = requirements(ROOT / ("requirements.txt" if trains else "requirements-demo.txt"))
    return doctor.packages(wanted, {name: _version(name) for name in wanted})


def requirements(path: Path) -> dict[str, str]:
    """Return what a file of requirements wants: name -> range; from the metadata of our own package where it is missing."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        lines = [line for line in metadata.requires("kd-explorer") or [] if "extra ==" not in line]
    found = (_LINE.fullmatch(line.strip()) for line in lines)
    return {match[1]: (match[2] or "").strip() for match in found if match}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def torch_build() -> Build:
    """Return the installed torch as a child process sees it, however that ends."""
    try:
        done = _child(_TORCH, LOAD_S)
    except subprocess.TimeoutExpired:
        done = subprocess.CompletedProcess([], 1, "", f"did not load within {LOAD_S:g} s")
    pair = torch_pair.described(done)
    if pair.error:
        return Build(pair)
    cuda, sees = json.loads(done.stdout.strip().splitlines()[-1])
    return Build(pair, cuda, int(sees))


def driver() -> Driver | None:
    """Return the NVIDIA driver and its GPUs; None where there is none."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no driver, or one that does not answer: all the same here
        return None
    try:
        cuda = int(pynvml.nvmlSystemGetCudaDriverVersion())
        handles = (pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount()))
        names = tuple(_text(pynvml.nvmlDeviceGetName(handle)) for handle in handles)
        return Driver(_text(pynvml.nvmlSystemGetDriverVersion()), (cuda // 1000, cuda % 1000 // 10), names)
    finally:
        pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def ffmpeg_says() -> str | None:
    """Return the first line of what ffmpeg says of itself; None where none runs."""
    try:
        done = _child(_FFMPEG, RUN_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _child(code: str, patience_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=patience_s, check=False)


def _font_sizes() -> dict[str, int]:
    folder = ROOT / "store" / "export" / "race" / "fonts"
    return {name: (folder / name).stat().st_size if (folder / name).is_file() else 0 for name in FONTS}


# ---- how it is hosted --------------------------------------------------------------------------------------------------------


def _hosted(environ: Mapping[str, str]) -> Hosting | None:
    try:
        return Hosting.find(_with_secrets(environ))
    except KdError:
        return None


def _hosting(environ: Mapping[str, str]) -> Iterator[Finding]:
    problems = [problem for path in _secret_files() for problem in _problems(lambda path=path: startup.demand_toml(path))]  # type: ignore[misc]
    try:
        found = Hosting.find(_with_secrets(environ))
        options = _streamlit_options(environ)
        problems += hosting.faults(
            found, address=options.get("address"), secrets=_secrets(), authlib=_version("Authlib") is not None,
            base=options.get("baseUrlPath") or "",
        )  # fmt: skip
        said = f"{found.mode.value}, sign-in: {found.sign_in.value}, on {options.get('address') or 'every address'}"
    except KdError as error:
        problems, said = [*problems, *error.problems], ""
    return doctor.faults("hosting", problems, said)


def _streamlit_options(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return Streamlit's options of the server as files and environment have them; what a command line says is not known."""
    found: dict[str, Any] = {}
    for folder in (Path.home(), ROOT):
        try:
            found |= tomllib.loads((folder / ".streamlit" / "config.toml").read_text(encoding="utf-8")).get("server", {})
        except (OSError, ValueError):
            continue
    told = {"address": "STREAMLIT_SERVER_ADDRESS", "baseUrlPath": "STREAMLIT_SERVER_BASE_URL_PATH"}
    return found | {name: environ[variable] for name, variable in told.items() if variable in environ}


def _secret_files() -> list[Path]:
    places = dict.fromkeys((Path.home(), Path.cwd(), ROOT))
    return [path for place in places if (path := place / ".streamlit" / "secrets.toml").is_file()]


def _secrets() -> dict[str, Any] | None:
    found: dict[str, Any] | None = None
    for path in _secret_files():
        try:
            found = (found or {}) | tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # said elsewhere
            continue
    return found


def _with_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment as the app will see it: Streamlit makes variables of what stands at the top of its secrets."""
    return {name: value for name, value in (_secrets() or {}).items() if isinstance(value, str)} | dict(environ)


def _rights() -> dict[str, int]:
    return {str(path): stat.S_IMODE(path.stat().st_mode) for path in _secret_files()}


def health_of(port: int) -> dict[str, Any] | None:
    """Return what ``/healthz`` of a server on this machine says; None where nothing of ours listens."""
    try:
        with urllib.request.urlopen(f"http://{serve.HOST}:{port}/healthz", timeout=ANSWER_S) as answer:
            said = answer.read(1 << 16)
    except urllib.error.HTTPError as error:
        said = error.read(1 << 16)
    except (OSError, ValueError):
        return None
    try:
        found = json.loads(said)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "checks" in found else None


# ---- the home ----------------------------------------------------------------------------------------------------------------


def _disk(home: Home) -> tuple[int, int, str]:
    usage = shutil.disk_usage(home.root)
    return usage.free, usage.total, disk_type(home.root)


def _memory(home: Home) -> Finding:
    memory = psutil.virtual_memory()
    places = slots(home) if not _problems(lambda: read_settings(home)) else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return doctor.memory(memory.available, memory.total, cores, places.cpu if places else 1)


def newest_file(home: Home) -> float | None:
    """Return the newest time among database, snapshot, run folders and their events (seconds since 1970)."""
    paths = [home.results, home.snapshot, *(path for run in run_dirs(home) for path in (run.path, run.events_jsonl))]
    return max((path.stat().st_mtime for path in paths if path.exists()), default=None)


def held_locks(home: Home) -> list[Lock]:
    """Return the locks of the home that matter; one that is held for moments is looked at again before it counts as held."""
    store = home.locks / "store.lock"
    try:
        pid = int((home.locks / "store.pid").read_text())
    except (OSError, ValueError):
        pid = None
    found = [Lock("store", is_held(store), pid, pid is not None and psutil.pid_exists(pid))]
    busy = [name for name in MOMENTS if is_held(home.locks / f"{name}.lock")]
    until = time.monotonic() + doctor.QUEUE_S
    while busy and time.monotonic() < until:
        time.sleep(0.05)
        busy = [name for name in busy if is_held(home.locks / f"{name}.lock")]
    return [*found, *(Lock(name, True) for name in busy)]


def _runs(home: Home) -> Iterator[Finding]:
    status = {run: status_of(run, home) for run in run_dirs(home)}
    counts: dict[str, int] = {}
    for how in status.values():
        counts[how.value] = counts.get(how.value, 0) + 1
    kept = is_held(home.locks / "store.lock") or RunStatus.RUNNING in status.values()
    return doctor.runs(counts, [found for run, how in status.items() if (found := stuck(run, how, home))], kept)


def stuck(run: RunDir, how: RunStatus, home: Home) -> Stuck | None:
    """Return why nothing moves a run on; None for one that is over, or goes on."""
    name = run.run_id
    if how is RunStatus.LOST:
        return Stuck(name, "lost: its worker is gone", f"python -m kdengine resume {name}, or cancel it")
    if how is RunStatus.WAITING:
        request = run.request_or_none()
        teacher = (request.teacher_run if request else None) or ""
        if teacher_status(home, teacher) is RunStatus.LOST:
            return Stuck(name, f"waits for its teacher {teacher}, which is lost", f"python -m kdengine resume {teacher}")
    if how is RunStatus.RUNNING and not is_locked(run):
        attempts = run.attempts()
        if attempts and not is_here(attempts[-1]):
            host = attempts[-1].host
            return Stuck(name, f"under way on {host}, as it says", f"if {host} is gone: python -m kdengine cancel {name}")
    if how is RunStatus.RUNNING and (silent_s := _silent_s(run)) > SILENT_S:
        do = f"look at its log; end it with python -m kdengine cancel {name}, then resume it"
        return Stuck(name, f"running, and silent for {silent_s / 3600:.1f} h", do)
    return None


def _silent_s(run: RunDir) -> float:
    times = [path.stat().st_mtime for path in (run.progress_json, run.events_jsonl, run.lock) if path.exists()]
    return max(0.0, time.time() - max(times, default=time.time()))


def _backups(home: Home) -> Iterator[Finding]:
    names = (path.parent.name for path in (home.root / "backups").glob("*/backup.json"))
    made = [datetime.strptime(name, STAMP).replace(tzinfo=UTC) for name in names if re.fullmatch(r"\d{8}T\d{6}Z", name)]
    wanted = bool(_problems(lambda: read_settings(home))) or read_settings(home).backups
    failed = errands.standing(home, BACKUP).problems
    return doctor.backups(max(made, default=None), datetime.now(UTC), wanted, bool(run_dirs(home)), failed)


def _verified(home: Home) -> tuple[int | None, str]:
    try:
        said = json.loads((home.root / "verify.json").read_bytes())
        return len(said["findings"]), str(said["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, ""
