"""What the live view says of an effect that is asked about: the effect, and what an answer covers beyond it."""

from __future__ import annotations

from typing import Any

import pytest

from lash_nb.machine.activity import ApprovalAsked
from lash_nb.machine.approvals import Approval, EffectKind, Wish
from lash_nb.views.document import document

from .turns import asked, picture


def asks_for(kind: EffectKind, target: str) -> Any:
    effect = Approval(id="a2", effect_id=1, code="1", wish=Wish(kind=kind, target=target))
    return document(picture(asked(), ApprovalAsked(approval=effect)))["ask"]


@pytest.mark.parametrize(
    ("kind", "target", "covers"),
    [
        (EffectKind.WRITE, "/data/a.csv", "lets this turn also write anything else that is directly in /data."),
        (EffectKind.WRITE, "/a.csv", "lets this turn also write anything else that is directly in /."),
        (EffectKind.DELETE, "/data/\u202ea", "lets this turn also delete anything else that is directly in /data."),
        (EffectKind.DELETE, "/d\u202e/a", "lets this turn also delete anything else that is directly in /d\\u202e."),
        (EffectKind.PROCESS, "git push -f", "lets this turn also start git with any other arguments."),
        (EffectKind.PROCESS, "'my git' push", "lets this turn also start my git with any other arguments."),
    ],
)
def test_more_of_the_kind_is_offered_with_what_it_covers(kind: EffectKind, target: str, covers: str) -> None:
    made = asks_for(kind, target)
    assert (made["alike"], made["covers"]) == (True, f"“Approve all like it” {covers}")


@pytest.mark.parametrize(
    ("kind", "target", "covers"),
    [
        # For a shell, or for nothing that could be read: only the same once more is like it.
        (EffectKind.PROCESS, "ls && rm -r /", ""),
        (EffectKind.PROCESS, "pip 'install", ""),
        (EffectKind.CONNECT, "e.org:443", "“Approve” is for e.org on every port, as long as this session lasts."),
        (EffectKind.CONNECT, "[::1]:80", "“Approve” is for [::1] on every port, as long as this session lasts."),
        (
            EffectKind.CONNECT,
            "/run/x.sock",
            "“Approve” is for /run/x.sock on every port, as long as this session lasts.",
        ),
    ],
)
def test_where_nothing_more_is_like_it_no_button_says_so(kind: EffectKind, target: str, covers: str) -> None:
    made = asks_for(kind, target)
    assert (made["alike"], made["covers"]) == (False, covers)


def test_what_is_too_long_for_a_sentence_stands_apart() -> None:
    made = asks_for(EffectKind.PROCESS, "echo " + "a" * 2_900 + "b" * 95)
    assert made["question"] == "The agent's code wants to start this command (3,000 characters):"
    assert made["target"] == "echo " + "a" * 2_900 + "b" * 95
    assert made["brief"] == "echo " + "a" * 145 + "\n[… 2,800 characters (0 lines) left out …]\n" + "b" * 50
    made = asks_for(EffectKind.DELETE, "/" + "a" * 200)
    assert made["question"] == "The agent's code wants to delete this path (201 characters):"
    assert made["covers"] == "“Approve all like it” lets this turn also delete anything else that is directly in /."
    made = asks_for(EffectKind.WRITE, "/" + "a" * 199)
    assert (made["question"], made["target"]) == (f"The agent's code wants to write /{'a' * 199}.", "")
    # In a sentence its lines would be one.
    made = asks_for(EffectKind.PROCESS, "true\n\u202erm")
    assert made["question"] == "The agent's code wants to start this command (8 characters):"
    assert (made["target"], made["brief"]) == ("true\n\\u202erm", "true\n\\u202erm")
    made = asks_for(EffectKind.WRITE, "/" + "d" * 300 + "/x")
    assert made["covers"] == (
        "“Approve all like it” lets this turn also write anything else that is directly in /"
        f"{'d' * 115}\n[… 135 characters (0 lines) left out …]\n{'d' * 50}."
    )
