"""`input()` where nobody can answer: an error that says what to do instead. Runs in the kernel."""

from __future__ import annotations

from typing import Any

REFUSAL = (
    "nobody can answer {}() here: write the value into the code, or read it from a variable or a file "
    "(an agent can ask for it in its answer)"
)
NO_ANSWER = (
    "{}() got no answer: nobody could be asked, or the question was withdrawn; write the value into the code, "
    "or read it from a variable or a file (an agent can ask for it in its answer)"
)


def install(shell: Any, inside: Any) -> None:
    """Replace the kernel's own two; the feature test is that it has them."""
    from IPython.core.error import StdinNotImplementedError

    kernel = shell.kernel
    original_input, original_getpass = kernel.raw_input, kernel.getpass

    def asked(name: str, ask: Any, *args: Any, **kwargs: Any) -> Any:
        if not kernel._allow_stdin:
            raise StdinNotImplementedError(REFUSAL.format(name))
        try:
            return ask(*args, **kwargs)
        except EOFError:
            raise EOFError(NO_ANSWER.format(name)) from None

    def raw_input(prompt: Any = "") -> Any:
        return asked("input", original_input, prompt)

    def getpass(prompt: str = "", *args: Any, **kwargs: Any) -> Any:
        return asked("getpass", original_getpass, prompt, *args, **kwargs)

    kernel.raw_input, kernel.getpass = raw_input, getpass
