"""Sets of rows: what may be done to them, held against plain sets."""

from __future__ import annotations

from functools import reduce

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from firehose.records import WHOLE, RowSet

Row = tuple[str, int, int]
ROWS = st.sets(st.tuples(st.sampled_from("st"), st.integers(0, 9), st.sampled_from([WHOLE, 0, 1])))


def row_set(rows: set[Row]) -> RowSet:
    found = RowSet()
    for shard, sequence, sub_sequence in rows:
        found.add(shard, np.array([sequence]), np.array([sub_sequence]))
    return found


@given(st.lists(ROWS, max_size=5))
def test_the_union_is_what_any_of_them_holds_and_leaves_them_alone(sets: list[set[Row]]) -> None:
    made = [row_set(each) for each in sets]
    found = RowSet.union(made)
    assert set(found) == set().union(*sets)
    assert found == reduce(RowSet.__or__, made, RowSet())
    found.add("s", np.array([99, 99]), np.array([WHOLE, 7]))
    found.add("t", np.arange(10), np.zeros(10, np.int64))
    assert [set(each) for each in made] == sets


@given(ROWS, ROWS)
def test_sets_of_rows_combine_as_sets_do(mine: set[Row], theirs: set[Row]) -> None:
    left, right = row_set(mine), row_set(theirs)
    assert (
        set(left | right) == mine | theirs and set(left - right) == mine - theirs and set(left & right) == mine & theirs
    )
    assert len(left) == len(mine) and RowSet.from_bytes(left.to_bytes()) == left
    assert all(left.holds(*row) == (row in mine) for row in mine | theirs)
