"""Lost messages, told by their numbers."""

from __future__ import annotations

import pytest

from lash_nb.kernels.numbering import Numbering


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [
        ([1, 2, 3], 0),
        ([7, 8, 9], 0),
        ([1, 2, 5], 2),
        ([1, 3, 2, 4], 0),  # a reply has overtaken an output
        ([1, 5, 2, 3], 1),
        ([1], 0),
    ],
)
def test_what_never_came_is_counted(numbers: list[int], missing: int) -> None:
    numbering = Numbering()
    for number in numbers:
        numbering.take(f"session_123_{number}")
    assert numbering.missing == missing


def test_other_ids_and_other_senders_are_no_loss() -> None:
    numbering = Numbering()
    for msg_id in ("a_1", "0d6f-uuid", "b_9", "b_10", ""):
        numbering.take(msg_id)
    assert numbering.missing == 0
