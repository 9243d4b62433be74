"""Values with named fields: what is refused, what is equal."""

from __future__ import annotations

from typing import Any

import pytest

from rvisor._record import Record, items, replace


class Pair(Record):
    one: int
    two: tuple[int, ...] = ()


class Other(Record):
    one: int
    two: tuple[int, ...] = ()


def test_fields_in_their_order_and_defaults() -> None:
    assert items(Pair(two=(2,), one=1)) == items(Pair(1, (2,))) == [("one", 1), ("two", (2,))]
    assert Pair(1).two == ()
    assert repr(Pair(1)) == "Pair(one=1, two=())"
    assert replace(Pair(1), two=(3,)) == Pair(1, (3,))


def test_equal_by_class_and_fields() -> None:
    assert Pair(1, (2,)) == Pair(two=(2,), one=1) and Pair(1) != Pair(2) and Pair(1) != Other(1)
    assert {Pair(1, (2,)), Pair(two=(2,), one=1)} == {Pair(1, (2,))}


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((), {"two": ()}), ((1, (), 3), {}), ((1,), {"one": 2}), ((1,), {"three": 3}), ((1, ()), {"two": ()})],
)
def test_wrong_fields(values: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="Pair has one, two"):
        Pair(*values, **named)


def test_it_does_not_change() -> None:
    made: Any = Pair(1)
    with pytest.raises(AttributeError, match="does not change"):
        made.one = 2
