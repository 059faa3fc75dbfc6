"""The filter of system calls: its verdicts, call by call, and a real sandbox under it."""

from __future__ import annotations

import errno
import importlib.util
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from lash_nb.kernels import seccomp
from lash_nb.kernels.seccomp import filter_program

X86_64, AARCH64, I386, ARM = 0xC000003E, 0xC00000B7, 0x40000003, 0x40000028
ALLOW, EPERM, ENOSYS = "allow", "EPERM", "ENOSYS"
VERDICTS = {0x7FFF0000: ALLOW, 0x00050000 | 1: EPERM, 0x00050000 | 38: ENOSYS}
LONGEST_PROGRAM = 4096


def verdict(program: bytes, *, arch: int, nr: int, args: tuple[int, ...] = ()) -> str:
    """What the kernel would make of a call: an interpreter of the four instructions that the program may use."""
    data = struct.pack("<IIQ6Q", nr, arch, 0x7F0000001000, *args, *(0,) * (6 - len(args)))
    instructions = list(struct.iter_unpack("=HBBI", program))
    loaded = place = 0
    while True:
        code, if_true, if_false, operand = instructions[place]
        place += 1
        match code:
            case 0x20:  # BPF_LD | BPF_W | BPF_ABS
                assert operand % 4 == 0
                (loaded,) = struct.unpack_from("<I", data, operand)
            case 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
                place += if_true if loaded == operand else if_false
            case 0x45:  # BPF_JMP | BPF_JSET | BPF_K
                place += if_true if loaded & operand else if_false
            case 0x06:  # BPF_RET | BPF_K
                return VERDICTS[operand]
            case _:
                raise AssertionError(f"no such instruction: {code:#x}")


# Name, number on x86_64, number on aarch64, arguments, verdict.
CALLS: list[tuple[str, int, int, tuple[int, ...], str]] = [
    ("read", 0, 63, (0, 0, 0), ALLOW),
    ("openat", 257, 56, (0, 0, 0), ALLOW),
    ("execve", 59, 221, (0, 0, 0), ALLOW),
    ("exit_group", 231, 94, (0,), ALLOW),
    ("ptrace", 101, 117, (0,), ALLOW),
    ("process_vm_readv", 310, 270, (1,), ALLOW),
    ("pidfd_open", 434, 434, (1,), ALLOW),
    ("openat2", 437, 437, (0,), ALLOW),
    ("clone, a thread of glibc", 56, 220, (0x3D0F00,), ALLOW),
    ("clone, fork of glibc", 56, 220, (0x01200011,), ALLOW),
    ("clone, new mounts", 56, 220, (0x00020011,), EPERM),
    ("clone, new cgroup", 56, 220, (0x02000011,), EPERM),
    ("clone, new uts", 56, 220, (0x04000011,), EPERM),
    ("clone, new ipc", 56, 220, (0x08000011,), EPERM),
    ("clone, new user", 56, 220, (0x10000011,), EPERM),
    ("clone, new pid", 56, 220, (0x20000011,), EPERM),
    ("clone, new net", 56, 220, (0x40000011,), EPERM),
    ("clone, new user and threads", 56, 220, (0x103D0F00,), EPERM),
    ("clone3", 435, 435, (0, 88), ENOSYS),
    ("socket, unix", 41, 198, (1, 1, 0), ALLOW),
    ("socket, inet", 41, 198, (2, 1, 0), ALLOW),
    ("socket, inet6", 41, 198, (10, 1, 0), ALLOW),
    ("socket, netlink", 41, 198, (16, 3, 0), ALLOW),
    ("socket, unspecified", 41, 198, (0, 1, 0), EPERM),
    ("socket, packet", 41, 198, (17, 3, 0), EPERM),
    ("socket, bluetooth", 41, 198, (31, 1, 0), EPERM),
    ("socket, alg", 41, 198, (38, 5, 0), EPERM),
    ("socket, vsock", 41, 198, (40, 1, 0), EPERM),
    ("socket, vsock under a high half", 41, 198, (0xFFFFFFFF_00000028, 1, 0), EPERM),
    ("socket, -1", 41, 198, (0xFFFFFFFF, 1, 0), EPERM),
    ("socketpair, unix", 53, 199, (1, 1, 0), ALLOW),
    ("socketpair, tipc", 53, 199, (30, 1, 0), EPERM),
    ("ioctl, TCGETS", 16, 29, (0, 0x5401), ALLOW),
    ("ioctl, FIONREAD", 16, 29, (0, 0x541B), ALLOW),
    ("ioctl, TIOCSTI", 16, 29, (0, 0x5412), EPERM),
    ("ioctl, TIOCSTI under a high half", 16, 29, (0, 0x1_00005412), EPERM),
    ("ioctl, TIOCLINUX", 16, 29, (0, 0x541C), EPERM),
    ("ioctl, a descriptor of that number", 16, 29, (0x5412, 0x5401), ALLOW),
    ("personality, PER_LINUX", 135, 92, (0,), ALLOW),
    ("personality, the question", 135, 92, (0xFFFFFFFF,), ALLOW),
    ("personality, no randomization", 135, 92, (0x0040000,), EPERM),
    ("personality, PER_LINUX32", 135, 92, (8,), EPERM),
    ("io_uring_setup", 425, 425, (8,), ENOSYS),
    ("io_uring_enter", 426, 426, (8,), ENOSYS),
    ("io_uring_register", 427, 427, (8,), ENOSYS),
    ("open_tree", 428, 428, (), EPERM),
    ("move_mount", 429, 429, (), EPERM),
    ("fsopen", 430, 430, (), EPERM),
    ("fsconfig", 431, 431, (), EPERM),
    ("fsmount", 432, 432, (), EPERM),
    ("fspick", 433, 433, (), EPERM),
    ("mount_setattr", 442, 442, (), EPERM),
    ("quotactl_fd", 443, 443, (), EPERM),
    ("open_tree_attr", 467, 467, (), EPERM),
    ("mount", 165, 40, (), EPERM),
    ("umount2", 166, 39, (), EPERM),
    ("pivot_root", 155, 41, (), EPERM),
    ("chroot", 161, 51, (), EPERM),
    ("setns", 308, 268, (3, 0), EPERM),
    ("unshare", 272, 97, (0,), EPERM),
    ("keyctl", 250, 219, (0,), EPERM),
    ("add_key", 248, 217, (), EPERM),
    ("request_key", 249, 218, (), EPERM),
    ("bpf", 321, 280, (), EPERM),
    ("perf_event_open", 298, 241, (), EPERM),
    ("userfaultfd", 323, 282, (), EPERM),
    ("name_to_handle_at", 303, 264, (), EPERM),
    ("open_by_handle_at", 304, 265, (), EPERM),
    ("kexec_load", 246, 104, (), EPERM),
    ("kexec_file_load", 320, 294, (), EPERM),
    ("init_module", 175, 105, (), EPERM),
    ("finit_module", 313, 273, (), EPERM),
    ("delete_module", 176, 106, (), EPERM),
    ("reboot", 169, 142, (), EPERM),
    ("swapon", 167, 224, (), EPERM),
    ("swapoff", 168, 225, (), EPERM),
    ("acct", 163, 89, (), EPERM),
    ("quotactl", 179, 60, (), EPERM),
    ("syslog", 103, 116, (), EPERM),
    ("settimeofday", 164, 170, (), EPERM),
    ("clock_settime", 227, 112, (), EPERM),
    ("clock_gettime", 228, 113, (), ALLOW),
]


def program_for(machine: str) -> bytes:
    program = filter_program(machine)
    assert program is not None
    return program


@pytest.mark.parametrize(("name", "x86_64", "aarch64", "args", "expected"), CALLS, ids=[call[0] for call in CALLS])
def test_verdicts(name: str, x86_64: int, aarch64: int, args: tuple[int, ...], expected: str) -> None:
    assert verdict(program_for("x86_64"), arch=X86_64, nr=x86_64, args=args) == expected
    assert verdict(program_for("aarch64"), arch=AARCH64, nr=aarch64, args=args) == expected


def test_ports_are_refused_where_there_are_any() -> None:
    assert [verdict(program_for("x86_64"), arch=X86_64, nr=nr) for nr in (172, 173)] == [EPERM, EPERM]
    assert [verdict(program_for("aarch64"), arch=AARCH64, nr=nr) for nr in (172, 173)] == [ALLOW, ALLOW]  # getpid …


@pytest.mark.parametrize(
    ("machine", "arch", "nr"),
    [
        ("x86_64", I386, 3),  # read
        ("x86_64", I386, 359),  # socket
        ("x86_64", AARCH64, 63),
        ("x86_64", X86_64, 0x40000000),  # read of x32
        ("x86_64", X86_64, 0x40000000 + 272),  # unshare of x32
        ("aarch64", ARM, 3),
        ("aarch64", X86_64, 0),
    ],
)
def test_other_architectures_are_refused(machine: str, arch: int, nr: int) -> None:
    assert verdict(program_for(machine), arch=arch, nr=nr, args=(1,)) == EPERM


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", X86_64), ("aarch64", AARCH64)])
def test_every_other_number_passes(machine: str, arch: int) -> None:
    column = {"x86_64": 1, "aarch64": 2}[machine]
    held_back = {call[column] for call in CALLS if call[4] is not ALLOW} | (
        {172, 173} if machine == "x86_64" else set()
    )
    program = program_for(machine)
    assert len(program) % 8 == 0
    assert len(program) // 8 <= LONGEST_PROGRAM
    stopped = {nr for nr in range(600) if verdict(program, arch=arch, nr=nr, args=(1, 0x5401)) is not ALLOW}
    by_argument = {"x86_64": {16, 41, 53, 56}, "aarch64": {29, 198, 199, 220}}[machine]  # those arguments are right
    assert stopped == held_back - by_argument


@pytest.mark.parametrize("machine", ["", "riscv64", "i686", "armv7l", "arm64", "AMD64"])
def test_no_program_for_other_machines(machine: str) -> None:
    assert filter_program(machine) is None


def test_this_machine_is_the_default() -> None:
    assert filter_program() == filter_program(platform.machine())


# -- the kernel's own headers --------------------------------------------------------------------------------------

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize("machine", [machine for machine, path in HEADERS.items() if path.exists()])
def test_numbers_are_those_of_the_headers(machine: str) -> None:
    found = {
        name: int(number)
        for name, number in re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", HEADERS[machine].read_text(), re.M)
    }
    tables = seccomp._REFUSED | seccomp._UNKNOWN | seccomp._BY_ARGUMENT
    ours = {name: numbers[machine] for name, numbers in tables.items() if machine in numbers}
    newer = {"open_tree_attr"} - found.keys()  # Linux 6.15
    assert ours == {name: found[name] for name in ours.keys() - newer} | {name: ours[name] for name in newer}


# -- a real sandbox ------------------------------------------------------------------------------------------------

PRELUDE = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def failure(nr, *args):
    ctypes.set_errno(0)
    got = libc.syscall(ctypes.c_long(nr), *(ctypes.c_ulong(arg) for arg in args))
    if got == 0 and nr in (56, 220):
        os._exit(0)
    return errno.errorcode.get(ctypes.get_errno()) if got == -1 else None
"""


ENTER = """
import ctypes, sys
program = ctypes.create_string_buffer(bytes.fromhex(sys.argv[1]), len(sys.argv[1]) // 2)
class Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("first", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
held = Program(len(program) // 8, ctypes.addressof(program))
assert libc.prctl(22, 2, ctypes.byref(held), 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
"""


def under_the_filter_alone(program: bytes, code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ENTER + code, program.hex()]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


SANDBOX = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]


def in_bubblewrap(program: bytes, code: str) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryFile() as file:
        file.write(program)
        file.seek(0)
        fd = file.fileno()
        # The interpreter may lie in /tmp itself.
        python = ["--ro-bind", sys.prefix, sys.prefix]
        command = [*SANDBOX, "--tmpfs", "/tmp", *python, "--seccomp", str(fd), sys.executable, "-c", code]
        return subprocess.run(command, pass_fds=[fd], capture_output=True, text=True, timeout=60)


def bubblewrap_works() -> bool:
    """It may be missing, or be forbidden to make a sandbox (in many a container)."""
    return shutil.which("bwrap") is not None and subprocess.run([*SANDBOX, "true"], capture_output=True).returncode == 0


Run = Callable[[bytes, str], "subprocess.CompletedProcess[str]"]
PROGRAM = filter_program() if sys.platform == "linux" else None
RUNS: list[Run] = [under_the_filter_alone, *([in_bubblewrap] if bubblewrap_works() else [])] if PROGRAM else []
"""Under the filter as root, if that is who we are: what is refused is refused by the filter. And as it will be used."""
ON_X86_64 = RUNS if platform.machine() == "x86_64" else []


def printed(run: Run, code: str) -> list[str]:
    """The lines that `code` prints under the filter; it must end well."""
    assert PROGRAM is not None
    done = run(PROGRAM, PRELUDE + textwrap.dedent(code))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def numbers(*names: str) -> tuple[int, ...]:
    here = platform.machine() == "x86_64"
    known = {name: x86_64 if here else aarch64 for name, x86_64, aarch64, _, _ in CALLS}
    return tuple(known[name] for name in names)


@pytest.mark.parametrize("run", RUNS)
def test_the_sandbox_refuses(run: Run) -> None:
    keyctl, unshare, clone, clone3, ring, bpf, personality = numbers(
        "keyctl", "unshare", "clone, new user", "clone3", "io_uring_setup", "bpf", "personality, PER_LINUX"
    )
    code = f"""
        import fcntl, socket
        for domain in (40, 17, 38, 31):
            try:
                socket.socket(domain, socket.SOCK_RAW)
            except OSError as error:
                print(errno.errorcode[error.errno])
        print(failure({keyctl}, 0, 0xFFFFFFFD, 0))
        print(failure({unshare}, 0x10000000))
        print(failure({clone}, 0x10000011, 0, 0, 0, 0))
        print(failure({clone3}, 0, 88))
        print(failure({ring}, 8, 0))
        print(failure({bpf}, 0, 0, 0))
        print(failure({personality}, 0x0040000))
        ends = os.openpty()
        try:
            fcntl.ioctl(ends[1], 0x5412, b"x")
        except OSError as error:
            print(errno.errorcode[error.errno])
    """
    expected = ["EPERM"] * 4 + ["EPERM", "EPERM", "EPERM", "ENOSYS", "ENOSYS", "EPERM", "EPERM", "EPERM"]
    assert printed(run, code) == expected


@pytest.mark.parametrize("run", ON_X86_64)
def test_the_sandbox_refuses_calls_of_other_architectures(run: Run) -> None:
    """`int 0x80` with getpid of i386 (20), in machine code; and getpid of x32."""
    code = """
        import mmap
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20; int 0x80; ret
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        print(ctypes.CFUNCTYPE(ctypes.c_int)(address)())
        print(failure(0x40000000 + 39))
    """
    assert printed(run, code) == [str(-errno.EPERM), "EPERM"]


@pytest.mark.parametrize("run", RUNS)
def test_the_sandbox_lets_programs_work(run: Run) -> None:
    code = """
        import asyncio, concurrent.futures, importlib.util, multiprocessing, socket, sqlite3, subprocess, tempfile
        def double(number):
            return number * 2
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            print("threads", sum(pool.map(double, range(10))))
        print("subprocess", subprocess.check_output(["sh", "-c", "echo $((40 + 2))"], text=True).strip())
        for method in ("fork", "spawn"):
            with multiprocessing.get_context(method).Pool(2) as pool:
                print(method, pool.map(abs, [-1, -2]))
        with tempfile.TemporaryDirectory() as directory:
            database = sqlite3.connect(directory + "/a.db")
            database.execute("pragma journal_mode=wal")
            database.execute("create table t (x)")
            database.execute("insert into t values (7)")
            database.commit()
            print("sqlite", database.execute("select x from t").fetchone()[0])
        ours, theirs = socket.socketpair()
        ours.sendall(b"unix")
        print(theirs.recv(4).decode())
        socket.socket(socket.AF_INET6).close()
        async def child():
            process = await asyncio.create_subprocess_exec("true")
            return await process.wait()
        print("asyncio", asyncio.run(child()))
        if importlib.util.find_spec("pandas"):
            import numpy, pandas
            square = numpy.ones((300, 300))
            print(int((square @ square).sum()), int(pandas.DataFrame({"a": [1, 2]}).a.sum()))
    """
    pandas = ["27000000 3"] if importlib.util.find_spec("pandas") else []
    assert printed(run, code) == [
        "threads 90",
        "subprocess 42",
        "fork [1, 2]",
        "spawn [1, 2]",
        "sqlite 7",
        "unix",
        "asyncio 0",
        *pandas,
    ]


@pytest.mark.parametrize("run", RUNS)
def test_the_sandbox_lets_ptrace_of_children(run: Run) -> None:
    """A tracer attaches to its own child (PTRACE_SEIZE) and lets it go."""
    (ptrace,) = numbers("ptrace")
    code = f"""
        import subprocess
        child = subprocess.Popen(["sleep", "60"])
        print(failure({ptrace}, 0x4206, child.pid, 0, 0))
        child.kill()
        child.wait()
    """
    assert printed(run, code) == ["None"]
