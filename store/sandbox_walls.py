"""Walls of the Linux kernel around the process that runs free SQL; none needs a privilege, none opens a way.

Reads / writes: no file. Never: changes anything outside the process that calls it.

They stand behind DuckDB's own settings: should a statement break those, or DuckDB itself, the process still can open no
file but the snapshot, start no program, reach no network and signal no other process. Where a kernel lacks one, its
function says so (False) and the others stand.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys
from pathlib import Path

_NO_NEW_PRIVS, _SECCOMP, _DEATH_SIGNAL, _DUMPABLE = 38, 22, 1, 4  # of prctl(2)
_LINUX = sys.platform.startswith("linux")
_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> bool:
    """End this process when the thread of ``parent`` that started it ends, a killed server included."""
    held = _LINUX and _prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it has gone already
        os._exit(1)
    return held


def first_to_go() -> bool:
    """Let the kernel end this process before any other of the machine when memory runs out."""
    try:
        with Path("/proc/self/oom_score_adj").open("wb", buffering=0) as score:
            score.write(b"1000")
    except OSError:
        return False
    return True


def step_down() -> bool:
    """Become nobody where this process is root; False where it is and may not."""
    if os.geteuid() != 0:
        return True
    nobody = 65534
    try:
        os.setgroups([])
        os.setgid(nobody)
        os.setuid(nobody)
    except OSError:
        return False
    return not _LINUX or _prctl(_DUMPABLE, 1)  # else /proc/self, through which the snapshot is opened, belongs to root


# -- Landlock: which files can be opened ----------------------------------------------------------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
_READ_FILE = 1 << 2
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # version -> how many rights over files it knows


def only_this_file(handle: int) -> bool:
    """Let this process, from now on, open the file behind ``handle`` for reading and no other (Landlock, Linux 5.13).

    What the kernel says about this process and the machine (``/proc/self``, ``/sys``) stays readable: DuckDB asks there how
    much memory there is, and dies where it may not. From later kernels on, TCP (6.7) and signals to other processes (6.12)
    are out of reach, too.
    """
    version = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1) if _LINUX else -1
    if version < 1:
        return False
    files = (1 << _RIGHTS.get(version, 16)) - 1
    fields = [files, *([3] if version >= 4 else []), *([3] if version >= 6 else [])]  # files, TCP, what leads to others
    rules = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = _libc.syscall(_CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0:
        return False
    opened = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in ("/proc/self", "/sys") if Path(path).is_dir()]
    try:
        allowed = [_libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", _READ_FILE, place), 0) for place in (handle, *opened)]
        return not any(allowed) and _prctl(_NO_NEW_PRIVS, 1) and _libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        for place in (ruleset, *opened):
            os.close(place)


# -- seccomp: what can be asked of the kernel -------------------------------------------------------------------------------

# machine -> (its number for audits, call -> its number). From linux/audit.h, asm/unistd.h
_CALLS: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (0xC000003E, {
        "readlink": 89, "readlinkat": 267, "clone": 56, "clone3": 435, "tgkill": 234, "prlimit64": 302,
        "open": 2, "openat": 257, "openat2": 437,
        "fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "kill": 62, "tkill": 200, "rt_sigqueueinfo": 129,
        "rt_tgsigqueueinfo": 297, "pidfd_open": 434, "pidfd_send_signal": 424, "pidfd_getfd": 438, "ptrace": 101,
        "process_vm_readv": 310, "process_vm_writev": 311, "socket": 41, "socketpair": 53, "connect": 42,
        "io_uring_setup": 425, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "memfd_create": 319, "creat": 85,
        "mkdir": 83, "mkdirat": 258, "mknod": 133, "mknodat": 259, "unlink": 87, "unlinkat": 263, "rmdir": 84,
        "rename": 82, "renameat": 264, "renameat2": 316, "link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266,
        "truncate": 76, "chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452, "chown": 92, "fchown": 93,
        "lchown": 94, "fchownat": 260, "utime": 132, "utimes": 235, "utimensat": 280, "mount": 165, "umount2": 166,
        "unshare": 272, "setns": 308, "open_by_handle_at": 304, "add_key": 248, "request_key": 249, "keyctl": 250,
        "shmget": 29, "shmat": 30, "msgget": 68, "semget": 64, "mq_open": 240,
    }),
    "aarch64": (0xC00000B7, {
        "readlinkat": 78, "clone": 220, "clone3": 435, "tgkill": 131, "prlimit64": 261,
        "openat": 56, "openat2": 437,
        "execve": 221, "execveat": 281, "kill": 129, "tkill": 130, "rt_sigqueueinfo": 138,
        "rt_tgsigqueueinfo": 240, "pidfd_open": 434, "pidfd_send_signal": 424, "pidfd_getfd": 438, "ptrace": 117,
        "process_vm_readv": 270, "process_vm_writev": 271, "socket": 198, "socketpair": 199, "connect": 203,
        "io_uring_setup": 425, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "memfd_create": 279,
        "mkdirat": 34, "mknodat": 33, "unlinkat": 35, "renameat": 38, "renameat2": 276, "linkat": 37, "symlinkat": 36,
        "truncate": 45, "fchmod": 52, "fchmodat": 53, "fchmodat2": 452, "fchown": 55, "fchownat": 54,
        "utimensat": 88, "mount": 40, "umount2": 39, "unshare": 97, "setns": 268, "open_by_handle_at": 265,
        "add_key": 217, "request_key": 218, "keyctl": 219, "shmget": 194, "shmat": 196, "msgget": 186, "semget": 190,
        "mq_open": 180,
    }),
}  # fmt: skip
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EPERM, _EINVAL, _ENOSYS = 1, 22, 38
_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06  # codes of the filter's machine
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16  # places in what the filter sees


def few_calls() -> bool:
    """Refuse this process, and the threads it starts, every call that leads out of it (seccomp).

    Reading links is answered with "not a link", so that DuckDB does not find out where the file lies that it is handed
    as an open descriptor: nobody then learns the server's paths from it.
    """
    calls = _CALLS.get(platform.machine()) if _LINUX else None
    if calls is None or not _prctl(_NO_NEW_PRIVS, 1):
        return False
    code = _filter(*calls)
    program = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HP", len(code) // 8, ctypes.addressof(program))
    return _prctl(_SECCOMP, 2, header)


# call -> what goes through: (which argument, test, with what, whether the test must hold)
_GUARDED = {
    "clone": (0, _ANY_BIT, 0x10000, True),  # threads: CLONE_THREAD
    "tgkill": (0, _EQUAL, None, True),  # signals to itself; None stands for its number
    "prlimit64": (0, _EQUAL, 0, True),  # its own limits
    "open": (1, _ANY_BIT, os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC, False),  # files to read
    "openat": (2, _ANY_BIT, os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC, False),
}
_ANSWERS = {"readlink": _EINVAL, "readlinkat": _EINVAL, "clone3": _ENOSYS, "openat2": _ENOSYS}  # without these libc takes others


def _filter(machine: int, calls: dict[str, int]) -> bytes:
    """Return the filter's program: what is not named goes through."""
    refuse = (_RETURN, 0, 0, _ERRNO | _EPERM)
    allow = (_RETURN, 0, 0, _ALLOW)
    lines = [(_LOAD, 0, 0, _MACHINE), (_EQUAL, 1, 0, machine), refuse, (_LOAD, 0, 0, _NUMBER)]
    lines += [(_AT_LEAST, 0, 1, 0x40000000), refuse]  # the other numbering of 64-bit Intel
    for name, number in calls.items():
        if name in _GUARDED:
            argument, test, wanted, must = _GUARDED[name]
            verdicts = (allow, refuse) if must else (refuse, allow)
            lines += [(_EQUAL, 0, 4, number), (_LOAD, 0, 0, _FIRST_ARGUMENT + 8 * argument)]
            lines += [(test, 0, 1, os.getpid() if wanted is None else wanted), *verdicts]
        else:
            lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | _ANSWERS.get(name, _EPERM))]
    return b"".join(struct.pack("=HBBI", *line) for line in (*lines, allow))


def _prctl(option: int, value: int, more: bytes | int = 0) -> bool:
    return bool(
        _libc.prctl(option, ctypes.c_ulong(value), more if more else ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) == 0
    )
