"""A kernel that cuts off the file of values under its reader: mapped memory would end this process by SIGBUS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CUTS = """
import glob, os, threading, time, numpy
big = numpy.ones(4_000_000)
place = os.environ["LASH_NB_RUNTIME_DIR"] + "/shared/values-*"
def cut():
    held = {}
    ends = time.monotonic() + 3
    while time.monotonic() < ends:
        for path in glob.glob(place):
            if path not in held:
                try:
                    held[path] = os.open(path, os.O_RDWR)
                except OSError:
                    pass
        if held and time.monotonic() > ends - 1.5:
            for file in held.values():
                os.ftruncate(file, 0)
threading.Thread(target=cut, daemon=True).start()
"""
READS = """
import asyncio, sys
from lash_nb import ManagedKernel
async def main(code, directory):
    async with ManagedKernel(sandbox=True, cwd=directory) as kernel:
        await kernel.run("", code)
        value = await kernel.value("big")
        await asyncio.sleep(2.5)
        print(value.sum())
asyncio.run(main(*sys.argv[1:]))
"""


def test_the_host_outlives_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", READS, CUTS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (0, "4000000.0\n"), done.stderr
