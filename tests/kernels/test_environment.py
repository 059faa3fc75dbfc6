"""Which variables a managed kernel gets."""

from __future__ import annotations

import pytest

from lash_nb.kernels.environment import kernel_environment, looks_secret


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
        "GITHUB_TOKEN",
        "HF_TOKEN", "DB_PASSWORD", "PGPASSWORD", "MYSQL_PWD", "GOOGLE_APPLICATION_CREDENTIALS", "JUPYTERHUB_API_TOKEN",
        "my_secret", "SENTRY_DSN", "SSH_AUTH_SOCK", "APIKEY", "API_KEY_2",
    ],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert looks_secret(name, "value")


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "PWD", "LANG", "TOKENIZERS_PARALLELISM", "KEYBOARD", "PYTHONPATH", "DISPLAY", "COMPASS"]
)
def test_names_that_are_none(name: str) -> None:
    assert not looks_secret(name, "value")


def test_a_password_in_a_url_is_a_secret() -> None:
    assert looks_secret("DATABASE_URL", "postgres://me:pa55@host/db")
    assert not looks_secret("DATABASE_URL", "postgres://host/db")


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
