"""Cells that an agent may write and that end badly: what is right for each is written here by hand.

They run in a kernel of their own, in a directory that is removed afterwards. A bomb needs a limit and is left out where
there is none.
"""

from __future__ import annotations

from tests.faults.hostile_cells_parts import (
    DEAD,
    ERROR,
    GRACE_S,
    INTERRUPTED,
    LIMIT_S,
    OK,
    SECOND,
    STILL,
    TIMEOUT,
    case,
    endless,
)

__all__ = ["CASES", "FAST"]

EXITS = (
    case("sys_exit", "import sys\nsys.exit(3)", ERROR, ename="SystemExit", keeps=True, fast=True),
    case("exit", "x = 1\nexit()", ERROR, ename="SystemExit", keeps=True, pause_s=0.5, check="x == 1"),
    case("quit", "quit()", ERROR, ename="SystemExit", keeps=True, pause_s=0.5),
    case("raise_system_exit_in_await", "import asyncio\nawait asyncio.sleep(0)\nraise SystemExit(2)", ERROR,
         ename="SystemExit", keeps=True),
    case("os_exit", "import os\nos._exit(1)", DEAD, tells="exit status 1", fast=True),
    case("os_abort", "import os\nos.abort()", DEAD, tells="SIGABRT"),
    case("segfault", "import ctypes\nctypes.string_at(0)", DEAD, tells="SIGSEGV", fast=True),
    case("kill_9", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", DEAD, tells="SIGKILL"),
    case("sigterm", "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM); time.sleep(5)", DEAD,
         tells="SIGTERM"),
    case("sighup", "import os, signal, time\nos.kill(os.getpid(), signal.SIGHUP); time.sleep(5)", DEAD, tells="SIGHUP"),
    case("sigint", "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT); time.sleep(5)", INTERRUPTED,
         keeps=True, tells="interrupted"),
    case("kill_group", "import os, signal\nos.killpg(os.getpgrp(), signal.SIGKILL)", DEAD, tells="SIGKILL",
         only_outside=True),
    endless("sigstop", "import os, signal, time\nos.kill(os.getpid(), signal.SIGSTOP); time.sleep(60)"),
    case("dump_traceback_later", "import faulthandler, time\nfaulthandler.dump_traceback_later(.2, exit=True)\n"
         "time.sleep(5)", DEAD, tells="exit status 1"),
    case("execv", "import os\nos.execv('/bin/sh', ['sh', '-c', 'exit 7'])", DEAD, tells="exit status 7"),
)  # fmt: skip

LOOPS = (
    endless("while_true", "while True: pass", keeps=True, fast=True),
    endless("gil_sum", "sum(range(10**12))", tells=STILL),
    endless("gil_pydll", "import ctypes\nwhile True: ctypes.PyDLL(None).sleep(600)", keeps=True),
    endless("regex_bomb", "import re\nre.match('(a+)+b', 'a' * 64)", keeps=True),
    endless("sleep", "import time\ntime.sleep(600)", keeps=True),
    endless("lock_deadlock", "import threading\nlock = threading.Lock()\nlock.acquire(); lock.acquire()", keeps=True),
    endless("rlock_of_a_thread", """
import threading
lock = threading.RLock()
thread = threading.Thread(target=lock.acquire); thread.start(); thread.join()
lock.acquire()
""", keeps=True),
    endless("two_locks", """
import threading, time
a, b = threading.Lock(), threading.Lock()
def one():
    with a: time.sleep(.1); b.acquire()
thread = threading.Thread(target=one, daemon=True); thread.start()
with b: time.sleep(.1); a.acquire()
""", keeps=True),
    endless("queue_get", "import queue\nqueue.Queue().get()", keeps=True),
    endless("join_for_ever", """
import threading, time
thread = threading.Thread(target=time.sleep, args=(30,)); thread.start(); thread.join()
""", keeps=True),
    case("non_daemon_thread", "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()", OK,
         keeps=True),
    case("atexit_hangs", "import atexit, time\natexit.register(time.sleep, 600)", OK, keeps=True),
    case("atexit_kills_nothing", "import atexit, os, signal\natexit.register(signal.pause)", OK, keeps=True),
    endless("long_multiplication", "x = 10**(10**7)\nwhile True: x * x", tells="ran longer than"),
)  # fmt: skip

SIGNALS = (
    endless("sigint_ignored", "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
            tells=SECOND, keeps=True, fast=True),
    endless("sigint_ignored_sleep",
            "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(600)",
            tells=SECOND, keeps=True),
    endless("sigint_ignored_await", """
import asyncio, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
await asyncio.sleep(600)
""", tells=SECOND, keeps=True),
    endless("sigint_swallowed", "import signal, time\nsignal.signal(signal.SIGINT, lambda *a: None)\ntime.sleep(600)",
            tells=SECOND, keeps=True),
    endless("sigint_blocked", """
import signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
time.sleep(600)
""", tells=SECOND, keeps=True),
    endless("every_handler_replaced", """
import signal
for number in signal.valid_signals():
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
""", tells=SECOND, keeps=True),
    endless("interrupt_swallowed_once", """
import time
try: time.sleep(600)
except KeyboardInterrupt: pass
time.sleep(600)
""", tells=SECOND, keeps=True),
    endless("interrupt_swallowed", "import time\nwhile True:\n    try: time.sleep(.1)\n    except BaseException: pass",
            tells=STILL),
    case("handler_raises", """
import os, signal
def handler(*args): raise ValueError('from a handler')
signal.signal(signal.SIGUSR1, handler); os.kill(os.getpid(), signal.SIGUSR1)
sum(range(1000))
""", ERROR, ename="ValueError", keeps=True),
    case("alarm_kills", "import signal, time\nsignal.alarm(1); time.sleep(5)", DEAD, tells="SIGALRM", bound_s=3.0),
    case("alarm_left_on", """
import signal
def handler(*args): raise TimeoutError('too late')
signal.signal(signal.SIGALRM, handler); signal.setitimer(signal.ITIMER_REAL, .2)
""", OK, pause_s=0.5, keeps=True),
    case("timer_left_on", """
import signal
def handler(*args): raise TimeoutError('again')
signal.signal(signal.SIGALRM, handler); signal.setitimer(signal.ITIMER_REAL, .2, .05)
""", OK, pause_s=0.5, keeps=True),
    case("async_exc_from_a_thread", """
import ctypes, threading, time
main = ctypes.c_ulong(threading.main_thread().ident)
def run():
    time.sleep(.2); ctypes.pythonapi.PyThreadState_SetAsyncExc(main, ctypes.py_object(KeyboardInterrupt))
threading.Thread(target=run).start()
while True: pass
""", ERROR, INTERRUPTED, keeps=True),
    case("async_exc_after_the_cell", """
import ctypes, threading, time
main = ctypes.c_ulong(threading.main_thread().ident)
def run():
    time.sleep(.2); ctypes.pythonapi.PyThreadState_SetAsyncExc(main, ctypes.py_object(KeyboardInterrupt))
threading.Thread(target=run).start()
""", OK, pause_s=0.5, keeps=True),
    case("interrupt_main_after_the_cell",
         "import _thread, threading\nthreading.Timer(.2, _thread.interrupt_main).start()", OK, pause_s=0.5, keeps=True),
)  # fmt: skip

STREAMS = (
    case("stdout_closed", "import sys\nsys.stdout.close()\nx = 1", OK, keeps=True, check="x == 1"),
    case("stdout_closed_and_print", "import sys\nsys.stdout.close()\nprint('x')", OK, ERROR, keeps=True),
    case("streams_none", "import sys\nsys.stdout = sys.stderr = None\nprint('x')", OK, keeps=True, fast=True),
    case("streams_replaced", "import sys\nsys.stdout = sys.stderr = 7", OK, ERROR, keeps=True, fast=True),
    case("stream_that_raises", """
import sys
class Bad:
    def write(self, text): raise ValueError('write')
    def flush(self): raise ValueError('flush')
sys.stdout = sys.stderr = Bad()
print('x')
""", ERROR, keeps=True),
    case("closed_file_as_stdout", "import io, sys\nsys.stdout = io.StringIO(); sys.stdout.close()", OK, ERROR,
         keeps=True),
    case("fds_1_2_closed", "import os\nos.close(1); os.close(2); os.system('echo lost')", OK, keeps=True, pause_s=0.3,
         check="__import__('time').sleep(.2) or (lambda a: __import__('time').sleep(.5) or "
               "__import__('time').process_time() - a)(__import__('time').process_time()) < .2"),
    case("all_fds_closed", "import os, time\nos.closerange(3, 4096); time.sleep(600)", TIMEOUT, DEAD,
         timeout_s=LIMIT_S, bound_s=GRACE_S),
    case("fd_exhaustion", "files = []\nwhile True: files.append(open('/dev/null'))", ERROR, ename="OSError", keeps=True,
         bound_s=8.0),
    case("nofile_lowered", "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\nopen('x', 'w')", ERROR,
         ename="OSError", keeps=True, fast=True),
    case("print_1_gb", "for _ in range(1024): print('x' * 2**20)", OK, bound_s=40.0, keeps=True),
    case("repr_1_gb", "class R:\n    def __repr__(self): return 'x' * 2**30\nR()", OK, bound_s=30.0, keeps=True),
    case("display_flood", "for n in range(50_000): display(n)", OK, bound_s=40.0, keeps=True),
    case("warnings_flood", "import warnings\nwarnings.simplefilter('always')\n"
         "for n in range(50_000): warnings.warn(str(n))", OK, bound_s=40.0, keeps=True),
    case("lone_surrogates", "import sys\nsys.stdout.write('\\ud800 \\udfff'); '\\udc80'", OK, keeps=True, fast=True),
    case("error_with_surrogates", "raise ValueError('\\ud800' * 10)", ERROR, ename="ValueError", keeps=True),
    endless("print_for_ever", "while True: print('y')", keeps=True, bound_s=GRACE_S + 2),
    case("child_prints_for_ever", "import os\nos.system('yes')", OK, TIMEOUT, tells="ran longer than", keeps=True,
         timeout_s=LIMIT_S, bound_s=GRACE_S + 2, no_child=True),
    case("input", "input('? ')", ERROR, ename="StdinNotImplementedError", keeps=True, fast=True),
    case("getpass", "import getpass\ngetpass.getpass()", ERROR, ename="StdinNotImplementedError", keeps=True),
    case("stdin_read", "import sys\nsys.stdin.read()", OK, ERROR, keeps=True),
    case("repr_raises_base", "class R:\n    def __repr__(self): raise KeyboardInterrupt\nR()", OK, ERROR, INTERRUPTED,
         keeps=True),
    endless("repr_never_ends", "class R:\n    def __repr__(self):\n        while True: pass\nR()", keeps=True),
    case("error_whose_str_raises", "class E(Exception):\n    def __str__(self): raise self\nraise E", ERROR, ename="E",
         keeps=True),
)  # fmt: skip

AWAITS = (
    endless("await_for_ever", "import asyncio\nawait asyncio.Future()", keeps=True, fast=True),
    endless("await_sleep", "import asyncio\nawait asyncio.sleep(10**6)", keeps=True),
    endless("loop_blocked", "import time\nasync def f(): time.sleep(600)\nawait f()", keeps=True),
    endless("loop_blocked_by_a_task", """
import asyncio, time
async def f(): time.sleep(600)
await asyncio.create_task(f())
""", keeps=True),
    case("loop_blocked_by_an_earlier_callback", "1", OK, TIMEOUT, tells="ran longer than", keeps=True,
         timeout_s=LIMIT_S, bound_s=GRACE_S,
         before="import asyncio, time\nasyncio.get_event_loop().call_later(.1, time.sleep, 600)"),
    endless("loop_blocked_by_an_earlier_task", "import time; time.sleep(.3)", keeps=True, before="""
import asyncio, time
async def f():
    await asyncio.sleep(.1)
    while True: pass
task = asyncio.create_task(f())
"""),
    endless("cancel_swallowed_once", """
import asyncio
try: await asyncio.sleep(600)
except asyncio.CancelledError: pass
await asyncio.sleep(600)
""", tells=SECOND, keeps=True),
    endless("cancel_swallowed", """
import asyncio
while True:
    try: await asyncio.sleep(60)
    except BaseException: continue
""", tells=STILL),
    endless("gather_that_swallows", """
import asyncio
async def f():
    while True:
        try: await asyncio.sleep(60)
        except asyncio.CancelledError: pass
await asyncio.gather(f(), f(), f())
""", tells=STILL),
    endless("shielded", "import asyncio\nawait asyncio.shield(asyncio.sleep(600))", keeps=True),
    endless("executor", "import asyncio, time\nawait asyncio.get_running_loop().run_in_executor(None, time.sleep, 30)",
            keeps=True),
    case("loop_stop", "import asyncio\nasyncio.get_event_loop().stop()", ERROR, ename="RuntimeError", keeps=True,
         fast=True),
    case("loop_close", "import asyncio\nasyncio.get_event_loop().close()", ERROR, ename="RuntimeError", keeps=True),
    case("loop_stop_later", "import asyncio\nloop = asyncio.get_event_loop(); loop.call_later(.1, loop.stop)", OK,
         pause_s=0.5, keeps=True),
    case("exit_in_a_callback", "import asyncio, sys\nasyncio.get_event_loop().call_later(.1, sys.exit)", OK,
         pause_s=0.5, keeps=True),
    case("exit_in_a_task", """
import asyncio
async def f(): raise SystemExit
task = asyncio.create_task(f())
""", OK, pause_s=0.5, keeps=True),
    case("asyncio_run", "import asyncio\nasyncio.run(asyncio.sleep(0))", ERROR, ename="RuntimeError", keeps=True),
    case("cancel_every_task", "import asyncio\nfor task in asyncio.all_tasks(): task.cancel()\nawait asyncio.sleep(1)",
         ERROR, INTERRUPTED, keeps=None),
)  # fmt: skip

MEMORY = (
    case("recursion", "def f(): return f()\nf()", ERROR, ename="RecursionError", bound_s=4.0, keeps=True),
    case("recursion_raised",
         "import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return n and 1 + f(n - 1)\nf(500_000)",
         OK, ERROR, DEAD, bound_s=20.0),
    case("c_stack_overflow", """
import sys
sys.setrecursionlimit(10**9)
class A:
    def __repr__(self): return repr([self])
x = repr(A())
""", DEAD, ERROR, bound_s=20.0),
    case("ever_deeper_repr", "x = []\nfor _ in range(10**5): x = [x]\nx", ERROR, OK, bound_s=8.0, keeps=True),
    case("memory_bomb", "held = []\nwhile True: held.append(bytearray(2**24))", DEAD, ERROR, need="memory",
         bound_s=15.0),
    case("huge_allocation", "b = bytearray(2**36)", ERROR, DEAD, need="memory", bound_s=15.0),
    case("fork_bomb", "import os\nwhile True: os.fork()", ERROR, DEAD, TIMEOUT, need="processes", timeout_s=4.0,
         bound_s=GRACE_S + 6, no_child=True),
    case("thread_bomb", "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()",
         ERROR, ename="RuntimeError", need="processes", bound_s=8.0),
    case("garbage_flood", "import gc\ngc.disable()\nfor _ in range(10**6):\n    x = []; x.append(x)", OK, bound_s=15.0,
         keeps=True),
)  # fmt: skip

_DEAF = "import signal, time; signal.signal(2, signal.SIG_IGN); signal.signal(15, signal.SIG_IGN); time.sleep(600)"
CHILDREN = (
    endless("deaf_child", f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {_DEAF!r}])", keeps=True,
            no_child=True),
    case("deaf_child_of_system", "import os\nos.system(\"trap '' INT TERM; sleep 600; sleep 600\")", OK, TIMEOUT,
         tells="ran longer than", timeout_s=LIMIT_S, bound_s=GRACE_S, keeps=True, no_child=True),
    endless("deaf_child_left", f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', {_DEAF!r}], start_new_session=True)
time.sleep(600)
""", keeps=True, no_child=True),
    endless("child_of_a_deaf_child", f"""
import subprocess, sys
subprocess.run(['sh', '-c', 'trap "" INT; "$0" -c "$1"; true', sys.executable, {_DEAF!r}])
""", keeps=True, no_child=True),
    endless("subprocess_sleep", "import subprocess\nsubprocess.run(['sleep', '600'])", keeps=True, no_child=True,
            fast=True),
    case("shell_sleep", "!sleep 600", OK, TIMEOUT, tells="ran longer than", timeout_s=LIMIT_S, bound_s=GRACE_S,
         keeps=True, no_child=True),
    case("bash_magic", "%%bash\nsleep 600", ERROR, TIMEOUT, tells="ran longer than", timeout_s=LIMIT_S, bound_s=GRACE_S,
         keeps=True, no_child=True),
    case("daemonised", """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    time.sleep(600)
os.wait();
""", OK, keeps=True),
    case("fork_runs_on", "import os, time\nif os.fork() == 0:\n    time.sleep(600)", OK, keeps=True),
    case("fork_and_return", "import os\nx = 5\npid = os.fork()\nprint('p')", OK, keeps=True, pause_s=0.5,
         check="x == 5 and __import__('os').waitpid(pid, 1)[0] == pid"),
    case("fork_and_raise", "import os\nif os.fork() == 0:\n    raise ValueError('in the child')", OK, keeps=True),
    endless("pool", """
import multiprocessing, time
with multiprocessing.get_context('fork').Pool(2) as pool: pool.map(time.sleep, [600] * 4)
""", keeps=True, no_child=True),
    endless("process_pool", """
import concurrent.futures, multiprocessing, time
context = multiprocessing.get_context('fork')
with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool: list(pool.map(time.sleep, [600] * 4))
""", keeps=None, no_child=True),
    case("earlier_child_stays", "import time\ntime.sleep(600)", TIMEOUT, tells="ran longer", timeout_s=LIMIT_S,
         bound_s=GRACE_S, keeps=True, pause_s=1.5, check="child.poll() is None",
         before="import subprocess, sys\nchild = subprocess.Popen(['sleep', '600'], start_new_session=True)"),
)  # fmt: skip

OURS = "__import__('json').dumps({'a': [1]}) == '{\"a\": [1]}'"
BROKEN = (
    case("json_dumps_none", "import json\njson.dumps = json.loads = None", OK, keeps=True, fast=True, check=OURS),
    case("json_dumps_wrong", "import json\njson.dumps = lambda *a, **k: 1 / 0", OK, keeps=True),
    case("print_none", "import builtins\nbuiltins.print = None", OK, keeps=True, fast=True),
    case("isinstance_raises", "import builtins\nbuiltins.isinstance = lambda *a: 1 / 0", OK, ERROR, keeps=True,
         fast=True),
    case("len_is_1", "len = 1", OK, keeps=True),
    case("builtin_len_is_1", "import builtins\nbuiltins.len = 1", OK, ERROR, keeps=True),
    case("import_broken", "import builtins\nbuiltins.__import__ = None", OK, ERROR, keeps=True, fast=True),
    case("builtins_cleared", "import builtins\nbuiltins.__dict__.clear()", OK, ERROR, keeps=None),
    case("sleep_none", "import time\ntime.sleep = time.time = time.monotonic = time.perf_counter = None", OK, ERROR,
         keeps=True, fast=True),
    case("thread_none", "import threading\nthreading.Thread = threading.Lock = threading.current_thread = None", OK,
         ERROR, keeps=True),
    case("report_deleted", "del get_ipython().kernel._lash_nb", OK, keeps=True),
    case("handlers_cleared", "kernel = get_ipython().kernel\nkernel.control_handlers.clear(); "
         "kernel.shell_handlers.clear()", OK, keeps=True, fast=True),
    case("session_none", "get_ipython().kernel.session = None", OK, ERROR, keeps=True, fast=True),
    case("session_broken", "get_ipython().kernel.session.send = None", OK, ERROR, keeps=True),
    case("session_key", "get_ipython().kernel.session.key = b'other'", OK, ERROR, keeps=None),
    case("shell_stream_none", "get_ipython().kernel.shell_stream = None", OK, ERROR, keeps=True),
    case("iopub_none", "kernel = get_ipython().kernel\nkernel.iopub_socket = kernel.iopub_thread = None", OK, ERROR,
         keeps=True),
    case("iopub_closed", "get_ipython().kernel.iopub_thread.close()", DEAD, tells="exit status 70"),
    case("do_execute_none", "get_ipython().kernel.do_execute = None", OK, ERROR, keeps=True),
    case("run_cell_none", "shell = get_ipython()\nshell.run_cell = shell.run_cell_async = None", OK, ERROR, keeps=True),
    case("get_ipython_none", "get_ipython = None; In = Out = None", OK, keeps=True),
    case("display_hook_raises", "import sys\nsys.displayhook = None\n1", OK, ERROR, keeps=True),
    case("excepthook_raises", "import sys\nsys.excepthook = None\nget_ipython().showtraceback = None\n1 / 0", OK, ERROR,
         keeps=True),
    case("modules_cleared", "import sys\nsys.modules.clear()", OK, ERROR, keeps=None, fast=True),
    case("settrace_raises", "import sys\nsys.settrace(lambda *a: 1 / 0)", OK, ERROR, keeps=True),
    case("setprofile_raises", "import sys\nsys.setprofile(lambda *a: 1 / 0)", OK, ERROR, keeps=True),
    case("pre_hook_raises", "def hook(*a): raise ValueError\nget_ipython().events.register('pre_run_cell', hook)", OK,
         keeps=True),
    case("removed_directory", "import os\nos.mkdir('d'); os.chdir('d'); os.rmdir('../d')", OK, keeps=True),
    case("environment_cleared", "import os\nos.environ.clear()", OK, keeps=True),
    case("umask_777", "import os\nos.umask(0o777); print('x' * 10**6)", OK, keeps=True),
    case("user_ns_cleared", "get_ipython().user_ns.clear()", OK, ERROR, keeps=None),
    case("ast_transformer_raises", "class T:\n    def visit(self, node): raise ValueError('no')\n"
         "get_ipython().ast_transformers.append(T())", OK, keeps=None),
    case("input_transformer_raises", "1", ERROR, ename="SystemExit", keeps=True, before="""
def transform(lines):
    get_ipython().input_transformers_cleanup.remove(transform)
    raise SystemExit
get_ipython().input_transformers_cleanup.append(transform);
"""),
    case("runtime_files_removed", "import os, shutil\nshutil.rmtree(os.environ['LASH_NB_RUNTIME_DIR'])", OK, ERROR,
         keeps=None),
    case("null_bytes", "x = 'a\\0b'\nexec('a\\0b')", ERROR, keeps=True, ename="SyntaxError"),
)  # fmt: skip

CASES = (*EXITS, *LOOPS, *SIGNALS, *STREAMS, *AWAITS, *MEMORY, *CHILDREN, *BROKEN)
_ALSO_FAST = (
    "exit sigint execv sigint_swallowed handler_raises alarm_left_on async_exc_after_the_cell stdout_closed "
    "stream_that_raises closed_file_as_stdout fds_1_2_closed loop_blocked_by_an_earlier_callback exit_in_a_callback "
    "fork_and_return fork_and_raise deaf_child_left session_broken do_execute_none iopub_closed user_ns_cleared"
)
FAST = tuple(one for one in CASES if one.fast or one.name in _ALSO_FAST.split())
