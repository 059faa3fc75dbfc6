"""What looks like a secret, and that it is taken out of everything that is kept."""

from __future__ import annotations

from dataclasses import replace

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
        (f"is tok-12345678-and{CUT}and-more", f"is [redacted]{CUT}[redacted]"),  # one secret begins as another
        (f"pa55wo{CUT}a55word", f"[redacted]{CUT}[redacted]"),
        (f"ghp_bbbbbbb7{CUT}b7bbbb.", f"[redacted]{CUT}[redacted]."),
        (f"AKIA12345678{CUT}international", f"[redacted]{CUT}international"),
        (f"sk-proj-aBcDeFgHiJkLmNoPqRsTuVwX{CUT}yZ0123 b", f"[redacted]{CUT}[redacted] b"),  # so far it is a whole one
        (f"sk-aaaaaaaaaaaaaaaaaaaaaaa{CUT}b2bbbb", f"[redacted]{CUT}[redacted]"),
        (f"pa55w{CUT}ord", f"pa55w{CUT}ord"),  # too short to be told from a word
        ("'tok-1234'… and tok-1234", "'[redacted]'… and tok-1234"),
        ("[1, 'tok-1234…", "[1, '[redacted]…"),
        (f"{'sk-' * 40_000}!{CUT}", f"{'sk-' * 40_000}!{CUT}".replace("sk-" * 40_000, "[redacted]")),
        ("no mark: tok-1234", "no mark: tok-1234"),
    ],
)
def test_pieces_of_secrets_beside_a_cut(text: str, redacted: str) -> None:
    assert Redactor(ENV).cut_text(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "using sk-learn…",
        "['sk-image', 'sk-learn'…",
        "['sk-learn-contrib'…",
        "2024 rows of hf_dataset_of_mine…",
        "hf_dataset_2024_01…",
        "ghp_b1…",
        "xoxb-…",
        "AKIA1234567…",
        f"from sk-learn{CUT}2024-01-15T10:00:00 INFO ok",
        f"a 17{CUT}customer_00042, 17",
        f"hf_dataset_of_mine{CUT}0x7ffdeadbeef00",
        f"x{CUT}3f2504e0-4f89-11d3-9a0c 17.5",
        f"a word {CUT}a1b2c3d4",
    ],
)
def test_what_is_harmless_beside_a_cut_stays(text: str) -> None:
    assert Redactor(ENV).cut_text(text) == text


def test_of_several_secrets_that_a_cut_piece_may_be_of_the_longest_goes() -> None:
    env = {"API_KEY": "abcdef-long-long-long-long", "OTHER_TOKEN": "Zq81xW0pabcdef12", "LAST_TOKEN": "0pabcdef3456"}
    redactor = Redactor(env)
    assert redactor.cut_text("it is Zq81xW0pabcdef…") == "it is [redacted]…"
    assert redactor.cut_text(f"a{CUT}W0pabcdef12 b") == f"a{CUT}[redacted] b"
    # Of whole ones nothing is left, also where another one's piece begins within them.
    both = Redactor({"ONE_TOKEN": "secret-one-tail99", "TWO_TOKEN": "tail9900-and-more"})
    assert both.cut_text("x secret-one-tail9900…") == "x [redacted]…"
    assert both.cut_text("x secret-one-tail99…") == "x [redacted]…"
    swapped = Redactor({"ONE_TOKEN": "99tail-one-secret", "TWO_TOKEN": "more-and-0099tail"})
    assert swapped.cut_text(f"a{CUT}and-0099tail-one-secret x") == f"a{CUT}[redacted] x"


def test_a_stream_that_was_cut_or_goes_on() -> None:
    redactor = Redactor(ENV)
    cut = StreamOutput(name="stdout", head="a tok-1234", tail="345678 b", omitted_chars=9)
    assert redactor.outputs((cut,)) == (
        StreamOutput(name="stdout", head="a [redacted]", tail="[redacted] b", omitted_chars=9),
    )
    token = StreamOutput(name="stdout", head="a ghp_b2bbbbbb", tail="b3bbbbbb b", omitted_chars=9)
    assert redactor.outputs((token, replace(token, head="a"))) == (
        StreamOutput(name="stdout", head="a [redacted]", tail="[redacted] b", omitted_chars=9),
        StreamOutput(name="stdout", head="a", tail="b3bbbbbb b", omitted_chars=9),
    )
    whole = StreamOutput(name="stdout", head="345678 tok-1234")
    assert redactor.outputs((whole,)) == (whole,)
    [running] = redactor.outputs((whole,), go_on=True)
    assert running == StreamOutput(name="stdout", head="345678 [redacted]")


def test_variables_are_redacted_throughout() -> None:
    secret = "tok-12345678"
    variable = VariableSummary(
        name="df",
        type="DataFrame",
        detail=f"columns {secret} str",
        preview="'pa55wor'…",
        columns=((secret, "str"), ("tok-12345…", "Enum(categories=['pa55wor…")),
    )
    safe = Redactor(ENV).namespace(NamespaceSummary(variables=(variable,)))
    assert safe.variables[0] == VariableSummary(
        name="df",
        type="DataFrame",
        detail="columns [redacted] str",
        preview="'[redacted]'…",
        columns=(("[redacted]", "str"), ("[redacted]…", "Enum(categories=['[redacted]…")),
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
