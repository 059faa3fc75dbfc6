"""The filter of system calls for a sandboxed kernel: a classic BPF program, as `bwrap --seccomp FD` reads it.

Decided here: what code in the sandbox may not ask the Linux kernel for. The sandbox has no capabilities, so most of
this is refused anyway; the filter keeps doors shut that are open to everyone (new user namespaces, and with them
mounts; io_uring; bpf; vsock and other rare sockets; keyrings, which no namespace parts; typing into the terminal).
Everything else passes: processes, threads, ptrace of one's own children.

- What is refused fails with EPERM. `clone3` and io_uring fail with ENOSYS, as on an old kernel: callers then go on
  with `clone` and with plain reads. (The flags of `clone3` lie in memory, which a filter cannot read.)
- Calls of another architecture (int 0x80, x32, 32-bit programs) have other numbers: all of them are refused.
- Pointers are not followed, and of an argument the kernel takes as `int` only the low half counts, as it does there.

Numbers: Linux 6.x, `arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h`.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Iterable, Sequence

__all__ = ["filter_program"]

_EPERM, _ENOSYS = 1, 38
"""Linux's, whatever system this runs on."""

# <linux/audit.h>, <linux/seccomp.h>
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NR, _ARCH, _ARGS = 0, 4, 16
"""Offsets in `struct seccomp_data`; both machines are little-endian, so the low half of an argument comes first."""
_X32_BIT = 0x40000000

# <linux/bpf_common.h>
_LOAD, _RETURN, _JUMP_EQUAL, _JUMP_ANY_BIT = 0x20, 0x06, 0x15, 0x45
_FARTHEST = 255
"""Jumps count instructions, forward, in eight bits."""

_DOMAINS = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: <linux/socket.h>."""
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET: <linux/sched.h>; `clone` does not know NEWTIME."""
_TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI, TIOCLINUX: <asm-generic/ioctls.h>."""
_PERSONALITIES = (0, 0xFFFFFFFF)
"""PER_LINUX, and the question which one it is: <linux/personality.h>."""

_REFUSED: dict[str, dict[str, int]] = {
    "acct": {"x86_64": 163, "aarch64": 89},
    "add_key": {"x86_64": 248, "aarch64": 217},
    "bpf": {"x86_64": 321, "aarch64": 280},
    "chroot": {"x86_64": 161, "aarch64": 51},
    "clock_settime": {"x86_64": 227, "aarch64": 112},
    "delete_module": {"x86_64": 176, "aarch64": 106},
    "finit_module": {"x86_64": 313, "aarch64": 273},
    "fsconfig": {"x86_64": 431, "aarch64": 431},
    "fsmount": {"x86_64": 432, "aarch64": 432},
    "fsopen": {"x86_64": 430, "aarch64": 430},
    "fspick": {"x86_64": 433, "aarch64": 433},
    "init_module": {"x86_64": 175, "aarch64": 105},
    "ioperm": {"x86_64": 173},
    "iopl": {"x86_64": 172},
    "kexec_file_load": {"x86_64": 320, "aarch64": 294},
    "kexec_load": {"x86_64": 246, "aarch64": 104},
    "keyctl": {"x86_64": 250, "aarch64": 219},
    "mount": {"x86_64": 165, "aarch64": 40},
    "mount_setattr": {"x86_64": 442, "aarch64": 442},
    "move_mount": {"x86_64": 429, "aarch64": 429},
    "name_to_handle_at": {"x86_64": 303, "aarch64": 264},
    "open_by_handle_at": {"x86_64": 304, "aarch64": 265},
    "open_tree": {"x86_64": 428, "aarch64": 428},
    "open_tree_attr": {"x86_64": 467, "aarch64": 467},
    "perf_event_open": {"x86_64": 298, "aarch64": 241},
    "pivot_root": {"x86_64": 155, "aarch64": 41},
    "quotactl": {"x86_64": 179, "aarch64": 60},
    "quotactl_fd": {"x86_64": 443, "aarch64": 443},
    "reboot": {"x86_64": 169, "aarch64": 142},
    "request_key": {"x86_64": 249, "aarch64": 218},
    "setns": {"x86_64": 308, "aarch64": 268},
    "settimeofday": {"x86_64": 164, "aarch64": 170},
    "swapoff": {"x86_64": 168, "aarch64": 225},
    "swapon": {"x86_64": 167, "aarch64": 224},
    "syslog": {"x86_64": 103, "aarch64": 116},
    "umount2": {"x86_64": 166, "aarch64": 39},
    "unshare": {"x86_64": 272, "aarch64": 97},
    "userfaultfd": {"x86_64": 323, "aarch64": 282},
}
"""Fail with EPERM, whatever the arguments."""
_UNKNOWN: dict[str, dict[str, int]] = {
    "clone3": {"x86_64": 435, "aarch64": 435},
    "io_uring_enter": {"x86_64": 426, "aarch64": 426},
    "io_uring_register": {"x86_64": 427, "aarch64": 427},
    "io_uring_setup": {"x86_64": 425, "aarch64": 425},
}
"""Fail with ENOSYS."""
_BY_ARGUMENT: dict[str, dict[str, int]] = {
    "clone": {"x86_64": 56, "aarch64": 220},
    "ioctl": {"x86_64": 16, "aarch64": 29},
    "personality": {"x86_64": 135, "aarch64": 92},
    "socket": {"x86_64": 41, "aarch64": 198},
    "socketpair": {"x86_64": 53, "aarch64": 199},
}
"""Fail with EPERM for some arguments."""

Instruction = tuple[int, int, int, int]
"""Code, how many to skip when it holds and when it does not, operand."""


def filter_program(machine: str | None = None) -> bytes | None:
    """The program for `machine` (default: this one) as an array of `struct sock_filter`; None: there is none for it.

    There is one for `x86_64` and `aarch64`, where the caller is a 64-bit process.
    """
    if machine is None:
        machine = platform.machine() if struct.calcsize("P") == 8 else ""
    if machine not in _AUDIT_ARCH:
        return None
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in _program(machine))


def _program(machine: str) -> list[Instruction]:
    """Blocks one after the other; each finds the number of the call loaded, and answers or leaves it so."""
    program = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        _failed(_EPERM),
        (_LOAD, 0, 0, _NR),
    ]
    if machine == "x86_64":  # x32 has the same architecture
        program += [(_JUMP_ANY_BIT, 0, 1, _X32_BIT), _failed(_EPERM)]
    program += _all_of(_numbers(_REFUSED, machine), _EPERM)
    program += _all_of(_numbers(_UNKNOWN, machine), _ENOSYS)
    number = {name: numbers[machine] for name, numbers in _BY_ARGUMENT.items()}
    program += _call(number["clone"], 0, [(_JUMP_ANY_BIT, 0, 1, _NEW_NAMESPACES), _failed(_EPERM)])
    program += _call(number["ioctl"], 1, _all_of(_TERMINAL_INPUT, _EPERM))
    program += _call(number["personality"], 0, _none_of(_PERSONALITIES))
    for name in ("socket", "socketpair"):
        program += _call(number[name], 0, _none_of(_DOMAINS))
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _numbers(calls: dict[str, dict[str, int]], machine: str) -> list[int]:
    return [numbers[machine] for numbers in calls.values() if machine in numbers]


def _failed(error: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | error)


def _equal(values: Iterable[int], *, target: int) -> list[Instruction]:
    """Jump to the instruction `target`, counted from the first of these, when what is loaded is one of `values`."""
    jumps = [(_JUMP_EQUAL, target - place - 1, 0, value) for place, value in enumerate(values)]
    assert all(jump[1] <= _FARTHEST for jump in jumps), "split the list: a jump goes no farther"
    return jumps


def _all_of(values: Sequence[int], error: int) -> list[Instruction]:
    """Fail when what is loaded is one of `values`."""
    *others, last = values
    return [*_equal(others, target=len(values)), (_JUMP_EQUAL, 0, 1, last), _failed(error)]


def _none_of(values: Sequence[int]) -> list[Instruction]:
    """Fail when what is loaded is none of `values`."""
    return [*_equal(values, target=len(values) + 1), _failed(_EPERM)]


def _call(number: int, argument: int, check: Sequence[Instruction]) -> list[Instruction]:
    """For the call with that number: look at one argument, and let pass what `check` does not fail."""
    block = [(_LOAD, 0, 0, _ARGS + 8 * argument), *check, (_RETURN, 0, 0, _ALLOW)]
    return [(_JUMP_EQUAL, 0, len(block), number), *block]
