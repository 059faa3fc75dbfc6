"""Which variables a managed kernel gets."""

from __future__ import annotations

from lash_nb.kernels.environment import kernel_environment


def test_the_kernels_environment() -> None:
    host = {"PATH": "/bin", "A_TOKEN": "1", "B_TOKEN": "2", "JPY_SESSION_NAME": "n", "MPLBACKEND": "agg"}
    env = kernel_environment(host, pass_env=["B_TOKEN"], parent_pid=7)
    assert env == {
        "PATH": "/bin",
        "B_TOKEN": "2",
        "JPY_PARENT_PID": "7",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    assert kernel_environment(host, parent_pid=7, scrub=False)["A_TOKEN"] == "1"
