"""The append-only sequence: views are immutable, shared, and branch when they have to."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.machine.messages import AppendOnly

LISTS = st.lists(st.integers(), max_size=5)


@given(start=LISTS, steps=st.lists(st.tuples(st.integers(0, 20), LISTS), max_size=12))
def test_every_view_keeps_what_it_held(start: list[int], steps: list[tuple[int, list[int]]]) -> None:
    """Append to any earlier view, in any order: none of the others changes."""
    views, model = [AppendOnly(start)], [tuple(start)]
    for which, added in steps:
        index = which % len(views)
        views.append(views[index].appended(added))
        model.append((*model[index], *added))
        assert [tuple(view) for view in views] == model
        assert [len(view) for view in views] == [len(entries) for entries in model]


@given(
    entries=LISTS,
    more=LISTS,
    start=st.none() | st.integers(-7, 7),
    stop=st.none() | st.integers(-7, 7),
    step=st.sampled_from([None, 1, 2, -1, -2]),
)
def test_indices_and_slices_are_those_of_a_tuple(
    entries: list[int], more: list[int], start: int | None, stop: int | None, step: int | None
) -> None:
    view = AppendOnly(entries)
    view.appended(more)  # lies in the same list, and is not seen
    plain = tuple(entries)
    assert view[start:stop:step] == plain[start:stop:step]
    for index in range(-len(plain), len(plain)):
        assert view[index] == plain[index]
    for index in (len(plain), -len(plain) - 1):
        with pytest.raises(IndexError):
            view[index]


def test_appending_to_the_longest_view_shares_and_to_another_copies() -> None:
    base = AppendOnly([1])
    longer = base.appended([2])
    branch = base.appended([3])
    assert longer._entries is base._entries
    assert branch._entries is not base._entries
    assert [tuple(view) for view in (base, longer, branch)] == [(1,), (1, 2), (1, 3)]


@given(start=LISTS, steps=st.lists(st.tuples(st.integers(0, 20), LISTS, st.integers(0, 5)), max_size=8))
def test_first_and_shared_with_are_those_of_the_entries(
    start: list[int], steps: list[tuple[int, list[int], int]]
) -> None:
    """A view of first entries holds them and may be appended to; what two views are said to share is the same."""
    views, model = [AppendOnly(start)], [tuple(start)]
    for which, added, count in steps:
        index = which % len(views)
        for view, held in (
            (views[index].first(count), model[index][:count]),
            (views[index].first(count).appended(added), (*model[index][:count], *added)),
        ):
            views.append(view)
            model.append(held)
    assert [tuple(view) for view in views] == model
    for (left, mine), (right, theirs) in itertools.product(zip(views, model, strict=True), repeat=2):
        shared = left.shared_with(right)
        assert mine[:shared] == theirs[:shared]
        assert 0 <= shared <= min(len(mine), len(theirs))


def test_what_is_shared_is_known_by_the_list_alone() -> None:
    base = AppendOnly([1, 2])
    longer = base.appended([3])
    assert (longer.shared_with(base), base.shared_with(longer), longer.shared_with(longer.first(1))) == (2, 2, 1)
    assert longer.shared_with(AppendOnly([1, 2, 3])) == 0
    assert base.appended([4]).shared_with(base) == 0  # a branch is a copy


def test_an_iteration_ends_where_the_view_does() -> None:
    view = AppendOnly([1, 2])
    walk = iter(view)
    assert next(walk) == 1
    view.appended([3])
    assert list(walk) == [2]


def test_an_empty_view_never_lends_its_list() -> None:
    empty: AppendOnly[int] = AppendOnly()
    one, two = empty.appended([1]), empty.appended([2])
    assert (tuple(empty), tuple(one), tuple(two)) == ((), (1,), (2,))


def test_equality_and_hash_go_by_the_entries() -> None:
    for left, right in itertools.product([AppendOnly([1, 2]), AppendOnly([1]).appended([2])], repeat=2):
        assert left == right
        assert hash(left) == hash(right)
    assert AppendOnly([1]) == (1,)
    assert AppendOnly([1]) != AppendOnly([1, 2])
    assert AppendOnly([1]) != 1
