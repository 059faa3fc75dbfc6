"""Attempts to get out of a sandboxed kernel: code that a cell runs there, or that makes a value which its host fetches.

Decided here: an attempt may fail in whatever way. What would tell of a success is looked at from outside (`escapes`):
files that were changed, the secret's text in what came back, connections, a process that was harmed. What would harm
this machine if it worked (settings of Linux, devices) is opened only, and the cell then says the word `got`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CELLS", "PRELUDE", "VALUES", "Attempt"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt."""

    name: str
    code: str


PRELUDE = """
import ctypes, errno, os, signal, socket, stat, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def raw(number, *args): return libc.syscall(number, *args) if os.uname().machine == 'x86_64' else -1
def got(): print(W['got'])
def show(path):
    try: print(open(path, 'rb').read(65536))
    except OSError: pass
def spoil(path):
    for mode in ('ab', 'r+b'):
        try:
            with open(path, mode) as file: file.write(b'spoiled')
        except OSError: pass
    for act in (os.unlink, lambda p: os.rename(p, p + '.moved'), lambda p: os.chmod(p, 0o777)):
        try: act(path)
        except OSError: pass
def opens(path, flags=os.O_WRONLY):
    try: os.close(os.open(path, flags))
    except OSError: return
    got()
def called(result):
    if result >= 0: got()
def reach(kind, how, address, text=b'escaped'):
    try:
        with socket.socket(kind, how) as one:
            one.settimeout(2)
            one.connect(address)
            one.send(text)
    except OSError: pass
def everywhere(act):
    for place in W['places']:
        try: act(place)
        except OSError: pass
"""
"""`W` is what the attacker knows of the host: `escapes.World.told`."""


def _each(group: str, attempts: dict[str, str]) -> tuple[Attempt, ...]:
    return tuple(Attempt(f"{group}: {name}", code) for name, code in attempts.items())


_NETWORK = _each(
    "network",
    {
        "TCP to the host's loopback": "reach(socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', W['tcp']))",
        "TCP over IPv6": "reach(socket.AF_INET6, socket.SOCK_STREAM, ('::1', W['tcp6']))",
        "TCP to every address of the host": """
for address in W['addresses']: reach(socket.AF_INET, socket.SOCK_STREAM, (address, W['tcp']))
""",
        "UDP": "reach(socket.AF_INET, socket.SOCK_DGRAM, ('127.0.0.1', W['udp']))",
        "a name is resolved": "import socket; socket.getaddrinfo('example.com', 80); got()",
        "an abstract socket": "reach(socket.AF_UNIX, socket.SOCK_STREAM, '\\0' + W['abstract'])",
        "sockets in files": "everywhere(lambda p: reach(socket.AF_UNIX, socket.SOCK_STREAM, p + '/socket'))",
        "sockets bound by a relative path": """
everywhere(lambda p: reach(socket.AF_UNIX, socket.SOCK_STREAM, p + '/relative'))
""",
        "datagram sockets in files": "everywhere(lambda p: reach(socket.AF_UNIX, socket.SOCK_DGRAM, p + '/datagrams'))",
        "a socket whose name is no text": """
everywhere(lambda p: reach(socket.AF_UNIX, socket.SOCK_STREAM, os.fsencode(p) + b'/so \\xff cket'))
""",
        "a socket in the working directory": "reach(socket.AF_UNIX, socket.SOCK_STREAM, W['cwd'] + '/socket')",
        "SSH's agent": """
for path in {os.environ.get('SSH_AUTH_SOCK'), W['agent']} - {None}:
    reach(socket.AF_UNIX, socket.SOCK_STREAM, path)
""",
        "vsock": "socket.socket(40, socket.SOCK_STREAM); got()",
        "raw": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); socket.socket(17, socket.SOCK_RAW, 3); got()",
        "packets": "socket.socket(17, socket.SOCK_RAW, 3); got()",
        "the kernel's own crypto": "socket.socket(38, socket.SOCK_SEQPACKET); got()",
        "a pipe in a file": """
for place in W['places']:
    try:
        fd = os.open(place + '/pipe', os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, b'escaped')
    except OSError: pass
""",
    },
)
_FILES = _each(
    "files",
    {
        "written, removed or renamed": "everywhere(lambda p: spoil(p + '/canary'))",
        "made": "everywhere(lambda p: open(p + '/made', 'w').close())",
        "made without a name": """
for place in W['places']:
    try: os.link(f"/proc/self/fd/{os.open(place, os.O_TMPFILE | os.O_RDWR)}", place + '/made', follow_symlinks=True)
    except OSError: pass
""",
        "read": "everywhere(lambda p: show(p + '/secret'))",
        "of the home": """
for name in ('.ssh/id_rsa', '.netrc', '.aws/credentials', '.config/gh/hosts.yml'):
    show(os.path.join(W['home'], name)); show(os.path.expanduser('~/' + name)); spoil(os.path.join(W['home'], name))
""",
        "of another user": "import glob\nfor path in [*W['homes'], *glob.glob('/home/*/*')]: show(path + '/secret')",
        "of the password file": """
for path in ('/etc/shadow', '/etc/gshadow', '/etc/shadow-', '/etc/security/opasswd', '/var/backups/shadow.bak'):
    try:
        if open(path).read(): got()
    except OSError: pass
""",
        "the system's": "for path in ('/etc/passwd', '/usr/bin/env', '/bin/sh', '/etc/ld.so.preload'): opens(path)",
        "made in the system": """
for path in ('/etc', '/usr/bin', '/usr/local/bin', '/opt', '/srv', '/'):
    try: open(path + '/' + W['word'], 'w').close(); got()
    except OSError: pass
""",
        "of the Python that runs": """
import site, ipykernel
for path in [ipykernel.__file__, os.path.realpath(sys.executable), *map(os.path.abspath, W['running'])]: opens(path)
for path in [*site.getsitepackages(), sys.prefix, sys.base_prefix]:
    try: open(os.path.join(path, W['word'] + '.pth'), 'w').close(); got()
    except OSError: pass
""",
        "of this package": """
for path in W['package']:
    if os.path.exists(path): opens(path)
""",
        "records of the kernel": """
for name in ('kernel.json', 'host.json', 'owner.json', 'lock', 'alive', 'inside.code', 'connection.json'):
    spoil(os.path.join(W['runtime'], name))
try: open(os.path.join(W['runtime'], 'made'), 'w').close()
except OSError: pass
""",
        "the directory of the kernel is moved": """
for act in (lambda: os.rename(W['runtime'], W['runtime'] + 'x'), lambda: os.rmdir(W['runtime'] + '/shared')):
    try: act()
    except OSError: pass
""",
        "other kernels' directories": """
import glob
for path in glob.glob('/dev/shm/lash-nb-*') + glob.glob('/tmp/lash-nb-*'):
    if path != W['runtime']: got()
""",
        "journals": """
for root, _, names in os.walk(W['state']):
    for name in names: show(os.path.join(root, name)); spoil(os.path.join(root, name))
try: open(W['state'] + '/journal', 'a').write('forged')
except OSError: pass
""",
        "the directory of journals is moved": """
for old in (W['state'], os.path.dirname(W['state'])):
    try:
        os.rename(old, old + '-old'); os.makedirs(W['state']); open(W['state'] + '/journal', 'w').write('forged')
    except OSError: pass
""",
        "hooks of Git": """
for path in ('.git/hooks/post-checkout', '.git/config'): spoil(W['cwd'] + '/' + path)
try: os.rename(W['cwd'] + '/.git', W['cwd'] + '/.git-old')
except OSError: pass
""",
        "a virtual environment in the working directory": """
for path in ('env/pyvenv.cfg', 'env/bin/python'): spoil(W['cwd'] + '/' + path)
try: os.rename(W['cwd'] + '/env', W['cwd'] + '/env-old')
except OSError: pass
""",
        "through .. and links": """
for path in ('../outside/canary', 'link/canary', './x/../../outside/canary'): spoil(os.path.join(W['cwd'], path))
for path in ('../outside/secret', 'link/secret'): show(os.path.join(W['cwd'], path))
""",
        "by a new link": """
for place in W['places']:
    for act in (os.symlink, os.link):
        name = W['cwd'] + '/new-link'
        try: act(place + '/canary', name); spoil(name)
        except OSError: pass
        try: os.unlink(name); act(place + '/secret', name); show(name)
        except OSError: pass
        try: os.unlink(name)
        except OSError: pass
""",
        "by the roots of processes": """
for root in ('/proc/self/root', '/proc/1/root', '/proc/1/cwd', '/proc/self/cwd/..', '/proc/self/task/1/root'):
    everywhere(lambda p: (show(root + p + '/secret'), spoil(root + p + '/canary')))
""",
        "by open descriptors": """
for pid in filter(str.isdigit, os.listdir('/proc')):
    for name in os.listdir(f'/proc/{pid}/fd') if os.access(f'/proc/{pid}/fd', os.R_OK) else ():
        path = f'/proc/{pid}/fd/{name}'
        try:
            if stat.S_ISDIR(os.stat(path).st_mode): everywhere(lambda p: show(path + '/' + '../' * 12 + p + '/secret'))
        except OSError: pass
""",
        "by handle": """
handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128), 136)
mount = ctypes.c_int()
called(libc.name_to_handle_at(-100, b'/', handle, ctypes.byref(mount), 0))
""",
        "out of a chroot": """
os.makedirs('/tmp/jail', exist_ok=True); fd = os.open('/', os.O_RDONLY); os.chroot('/tmp/jail'); os.fchdir(fd); got()
""",
        "the memory of Linux": """
for path in ('/proc/kcore', '/dev/mem', '/dev/kmem', '/dev/port'): opens(path, os.O_RDONLY)
""",
        "settings of Linux": """
for path in ('core_pattern', 'hostname', 'modprobe', 'randomize_va_space'): opens('/proc/sys/kernel/' + path)
for path in ('/proc/sysrq-trigger', '/proc/sys/vm/overcommit_memory', '/proc/sys/fs/binfmt_misc/register'): opens(path)
""",
        "settings of devices": """
for root, _, names in os.walk('/sys/kernel'):
    for name in names[:20]:
        path = os.path.join(root, name)
        if os.access(path, os.W_OK): opens(path)
""",
        "control groups": """
for root, _, names in os.walk('/sys/fs/cgroup'):
    for name in {'cgroup.procs', 'release_agent', 'tasks', 'pids.max', 'memory.limit_in_bytes'} & set(names):
        opens(os.path.join(root, name))
""",
    },
)
_PROCESSES = _each(
    "processes",
    {
        "signalled": """
for pid in (W['victim'], W['host'], W['guardian'], os.getppid()):
    if pid > 1:
        try: os.kill(pid, signal.SIGSTOP)
        except OSError: pass
""",
        "signalled by group": """
for pid in (W['victim'], W['host'], W['guardian']):
    try: os.killpg(pid, signal.SIGTERM)
    except OSError: pass
""",
        "signalled by descriptor": """
for pid in (W['victim'], W['host']):
    try: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGTERM)
    except OSError: pass
""",
        "traced": """
for pid in (W['victim'], W['host'], W['guardian']): called(libc.ptrace(16, pid, 0, 0))
""",
        "their memory": """
class Part(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]
room = ctypes.create_string_buffer(64)
mine, other = Part(ctypes.addressof(room), 64), Part(W['address'], 64)
libc.process_vm_readv(W['victim'], ctypes.byref(mine), 1, ctypes.byref(other), 1, 0)
print(room.raw)
""",
        "their environment": """
for pid in (W['victim'], W['host'], W['guardian'], 1):
    for name in ('environ', 'cmdline', 'maps'): show(f'/proc/{pid}/{name}')
""",
        "all that are to be seen": """
for pid in filter(str.isdigit, os.listdir('/proc')):
    for name in ('environ', 'cmdline'):
        try: show(f'/proc/{pid}/{name}')
        except OSError: pass
""",
        "their descriptors": "raw(438, os.pidfd_open(W['victim']), 0, 0) >= 0 and got()",
        "shared memory of System V": "called(libc.shmget(W['shm'], 16, 0))",
    },
)
_MOUNTS = _each(
    "mounts",
    {
        "mount": "called(libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None))",
        "the root writable": "called(libc.mount(None, b'/', None, 32 | 4096, None))",
        "unmount what hides": """
for path in (b'/root', b'/home', b'/tmp', b'/run', b'/var'): called(libc.umount2(path, 2))
""",
        "new user namespace": "called(libc.unshare(0x10000000))",
        "new namespaces by clone": "called(raw(56, 0x10020011, 0, 0, 0, 0) or os._exit(0))",
        "by clone3": """
pid = raw(435, struct.pack('11Q', 0x10020000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88)
if pid == 0: os._exit(0)
called(pid)
""",
        "by unshare": "if not subprocess.run(['unshare', '-Urm', 'true'], capture_output=True).returncode: got()",
        "namespaces of the first process": """
for name in ('mnt', 'net', 'user', 'pid'):
    called(libc.setns(os.open('/proc/1/ns/' + name, os.O_RDONLY), 0))
""",
        "another root": "called(raw(155, b'/tmp', b'/tmp'))",
        "the new calls": "called(raw(430, b'tmpfs', 0)); called(raw(428, -100, b'/', 1))",
        "bubblewrap once more": """
if not subprocess.run(['bwrap', '--bind', '/', '/', 'true'], capture_output=True).returncode: got()
""",
        "a disk": """
subprocess.run(['mount', '-o', 'loop', '/tmp/none', '/mnt'], capture_output=True).returncode or got()
""",
    },
)
_DEVICES = _each(
    "devices",
    {
        "made": """
for place in ('/tmp', W['cwd'], '/dev/shm'):
    try: os.mknod(place + '/disk', stat.S_IFBLK | 0o600, os.makedev(254, 0)); opens(place + '/disk', os.O_RDONLY)
    except OSError: pass
""",
        "disks": """
import glob
for path in glob.glob('/dev/[svx]d*') + glob.glob('/dev/nvme*') + glob.glob('/dev/loop*'): opens(path, os.O_RDONLY)
""",
        "the log of Linux": """
opens('/dev/kmsg'); opens('/proc/kmsg', os.O_RDONLY); called(libc.klogctl(3, bytes(16), 16))
""",
        "the terminal": """
import fcntl
master, slave = os.openpty()
fcntl.ioctl(slave, 0x5412, b'x'); got()
""",
        "io_uring": "called(raw(425, 4, ctypes.create_string_buffer(256)))",
        "bpf": "called(raw(321, 0, ctypes.create_string_buffer(128), 128))",
        "the clock": "time.clock_settime(time.CLOCK_REALTIME, time.time()); got()",
        "modules": "called(raw(175, b'', 0, b''))",
    },
)
_KEYS = _each(
    "keys",
    {
        "the environment": "print(dict(os.environ))",
        "keyrings": "called(raw(250, 0, -3, 0))",
    },
)
_ROOM = _each(
    "room",
    {
        "files in memory": """
import glob
for place in ('/tmp', '/dev/shm', '/run', '/var', '/home', os.path.expanduser('~')):
    try:
        with open(place + '/large', 'wb') as file: os.posix_fallocate(file.fileno(), 0, 3 << 30); got()
    except OSError: pass
    finally:
        for path in glob.glob(place + '/large'): os.unlink(path)
""",
        "devices' directory": "open('/dev/large', 'wb'); got()",
    },
)
CELLS = (*_NETWORK, *_FILES, *_PROCESSES, *_MOUNTS, *_DEVICES, *_KEYS, *_ROOM)

_SENDS = "class Sent:\n    def __reduce__(self): return {}\nbad = Sent()"


def _value(reduced: str, first: str = "") -> str:
    return f"{first}\n{_SENDS.format(reduced)}"


VALUES = _each(
    "values",
    {
        "os.system": _value("os.system, ('touch ' + W['touched'],)"),
        "exec": _value("exec, ('open(' + repr(W['touched']) + ', \"w\")',)"),
        "eval": _value("eval, ('open(' + repr(W['touched']) + ', \"w\")',)"),
        "open": _value("open, (W['touched'], 'w')"),
        "a process": _value("subprocess.Popen, (['touch', W['touched']],)"),
        "an import": _value("importlib.import_module, ('antigravity',)", "import importlib"),
        "getattr": _value("getattr, (os, 'system')"),
        "a chain of getattr": _value(
            "link, (getattr, (str, '__class__'))",
            "class link:\n    def __new__(cls, function, args): return function(*args)",
        ),
        "numpy runs a command": _value("numpy.f2py.compile, ('touch ' + W['touched'],)", "import numpy.f2py"),
        "a file of numpy": _value("numpy.memmap, (W['touched'], 'u1', 'w+', 0, (1,))", "import numpy"),
        "a pickle of pandas": _value("pandas.read_pickle, (W['touched'],)", "import pandas"),
        "pandas.eval": _value("pandas.eval, ('1+1',)", "import pandas"),
        "a frame that queries": _value(
            "pandas.DataFrame.query, (pandas.DataFrame({'a': [1]}), '@__import__(\"os\").getcwd()')", "import pandas"
        ),
        "a function of a cell": "def bad(): pass",
        "an instance of a cell's class": "class Own: pass\nbad = Own()",
        "a file of pathlib": _value("pathlib.Path.touch, (pathlib.Path(W['touched']),)", "import pathlib"),
        "objects over bytes": _value("numpy.ndarray, ((1,), numpy.dtype('O'), b'A' * 8)", "import numpy"),
        "a dtype that lies": _value(
            "numpy.dtype, ('V8', False, True), (3, '|', None, ('a',), {'a': (numpy.dtype('O'), 0)}, 8, 1, 0)",
            "import numpy",
        ),
        "a dtype that all use": _value("numpy.dtype, (float,), (3, '>', None, None, None, -1, -1, 0)", "import numpy"),
        "more than came": _value("list, (range(10**11),)"),
        "a large number": _value("fractions.Fraction, ('1e1000000000',)", "import fractions"),
        "memory for nothing": _value("bytearray, (10**10,)"),
    },
)
"""Each makes `bad`, which must not come."""
