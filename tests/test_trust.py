"""What looks like a secret, and that it is taken out of everything that is kept."""

from __future__ import annotations

import pytest

from lash_nb.machine.execution import (
    CellOutcome,
    CellResult,
    DisplayOutput,
    ErrorOutput,
    FinishValue,
    NamespaceSummary,
    StreamOutput,
    VariableSummary,
)
from lash_nb.trust import Redactor, looks_secret, sha256_text, whole_text


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


ENV = {
    "SERVICE_TOKEN": "tok-12345678",
    "LONGER_TOKEN": "tok-12345678-and-more",
    "SHORT_KEY": "abc",
    "DATABASE_URL": "postgres://me:pa55word@host/db",
    "KEY_FILE": "/home/me/keys/one.pem",
    "HOME": "/home/me",
}


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("it is tok-12345678.", "it is [redacted]."),
        ("tok-12345678-and-more", "[redacted]"),  # the longer one, not its beginning
        ("abc and abcdef", "abc and abcdef"),  # too short to be told from a word
        ("pa55word", "[redacted]"),
        ("/home/me/keys/one.pem", "/home/me/keys/one.pem"),  # a path names a secret, it is none
        ("sk-" + "a" * 30, "[redacted]"),
        ("ghp_" + "b" * 36, "[redacted]"),
        ("AKIA" + "C" * 16, "[redacted]"),
        ("task-aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "task-aaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ],
)
def test_redaction(text: str, redacted: str) -> None:
    assert Redactor(ENV).text(text) == redacted


def test_a_cells_end_is_redacted_throughout() -> None:
    secret = "tok-12345678"
    result = CellResult(
        outcome=CellOutcome.ERROR,
        outputs=(
            StreamOutput(name="stdout", head=f"a {secret}", tail=f"b {secret}", omitted_chars=1),
            DisplayOutput(data={"text/plain": secret, "application/json": {"k": [secret]}}, metadata={}),
            DisplayOutput(data={"image/png": "sk" + "A" * 40}, metadata={}),
            DisplayOutput(data={"image/svg+xml": f"<text>{secret}</text>"}, metadata={"note": secret}),
        ),
        error=ErrorOutput(ename=secret, evalue=secret, traceback=(f"line {secret}",)),
        finish=FinishValue(value={"v": secret, secret: 1}),
    )
    safe = Redactor(ENV).result(result)
    assert secret not in repr(safe)
    assert safe.outputs[2] == result.outputs[2]


CUT = "\n[… 1,234 characters (5 lines) left out …]\n"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (f"is tok-1234{CUT}345678 x", f"is [redacted]{CUT}[redacted] x"),
        (f"is tok-12345678-and{CUT}and-more", f"is [redacted]-and{CUT}[redacted]"),  # one secret ends as another begins
        (f"pa55wo{CUT}a55word", f"[redacted]{CUT}[redacted]"),
        (f"ghp_bbbb{CUT}b7bbbbbbbbb.", f"[redacted]{CUT}[redacted]."),
        (f"AKIA12{CUT}international", f"[redacted]{CUT}international"),
        (f"pa55w{CUT}ord", f"pa55w{CUT}ord"),  # too short to be told from a word
        ("'tok-1234'… and tok-1234", "'[redacted]'… and tok-1234"),
        ("[1, 'tok-1234…", "[1, '[redacted]…"),
        (f"{'sk-' * 40_000}!{CUT}", f"{'sk-' * 40_000}!{CUT}".replace("sk-" * 40_000, "[redacted]")),
        ("no mark: tok-1234", "no mark: tok-1234"),
    ],
)
def test_pieces_of_secrets_beside_a_cut(text: str, redacted: str) -> None:
    assert Redactor(ENV).cut_text(text) == redacted


def test_a_stream_that_was_cut_or_goes_on() -> None:
    redactor = Redactor(ENV)
    cut = StreamOutput(name="stdout", head="a tok-1234", tail="345678 b", omitted_chars=9)
    assert redactor.outputs((cut,)) == (
        StreamOutput(name="stdout", head="a [redacted]", tail="[redacted] b", omitted_chars=9),
    )
    whole = StreamOutput(name="stdout", head="345678 tok-1234")
    assert redactor.outputs((whole,)) == (whole,)
    [running] = redactor.outputs((whole,), go_on=True)
    assert running == StreamOutput(name="stdout", head="345678 [redacted]")


def test_variables_are_redacted_throughout() -> None:
    secret = "tok-12345678"
    variable = VariableSummary(
        name="df", type="DataFrame", detail=f"columns {secret} str", preview="'pa55wor'…", columns=((secret, "str"),)
    )
    safe = Redactor(ENV).namespace(NamespaceSummary(variables=(variable,)))
    assert safe.variables[0] == VariableSummary(
        name="df",
        type="DataFrame",
        detail="columns [redacted] str",
        preview="'[redacted]'…",
        columns=(("[redacted]", "str"),),
    )


def test_each_line_of_a_private_key_is_a_secret() -> None:
    redactor = Redactor({"SIGNING_KEY": "-----BEGIN-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END-----"})
    assert redactor.text(repr("a\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n")) == "'a\\n[redacted]\\n[redacted]\\n'"


@pytest.mark.parametrize(
    ("text", "whole"),
    [("ä 😀", "ä 😀"), ("a\ud800b", "a\ufffdb"), ("\ud83d\ude00", "😀"), ("\udc80\ud800", "\ufffd\ufffd"), ("", "")],
)
def test_half_a_surrogate_pair_is_replaced(text: str, whole: str) -> None:
    assert whole_text(text) == whole
    assert Redactor({}).text(text) == whole


def test_sha256() -> None:
    assert sha256_text("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
