"""A storage of one's own keeps values that objsync itself has no bytes for, and is operated on like what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from objsync import DiskObject
from test_own_storage import Memory


@pytest.fixture
def m() -> Memory:
    return Memory(stored={"a": {"b": [1]}})


class Opaque:
    """What `Memory` keeps and objsync has no bytes for."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and other.n == self.n


def test_values_of_any_class_that_save_takes_are_read_and_taken_out(m: Memory) -> None:
    big = "x" * (9 << 20)
    m["a"].update(p=Path("x"), o=Opaque(1), t=(1, [2]), b=bytearray(b"y"), big=big)
    m["o"] = Opaque(2)
    assert m["a"]["p"] == Path("x") and m["a"].get("o") == Opaque(1) and m["a"]["t"] == (1, [2])
    assert type(m["a"]["b"]) is bytearray and m["a"]["big"] == big and m["o"].n == 2
    m["o"].n = m["a"]["o"].n = 5
    assert (m.pop("o"), m["a"].pop("o")) == (Opaque(2), Opaque(1)), "what is given out is a copy"
    assert "o" not in m and "o" not in m["a"] and "o" not in m.stored["a"]
    assert list(m["a"].values())[1] == Path("x") and m["a"].setdefault("z", Opaque(3)) == Opaque(3)
    assert m["a"].popitem() == ("z", Opaque(3))


def test_containers_among_values_of_any_class_keep_their_places(m: Memory) -> None:
    m["l"] = [Opaque(1), {}, Opaque(2)]
    held = m["l"]
    inner = held[1]
    held.insert(0, Opaque(0))
    inner["k"] = 1
    assert len(held) == 4
    held.append(Opaque(3))
    inner["k"] = 2
    held.remove(Opaque(1))
    assert held == [Opaque(0), {"k": 2}, Opaque(2), Opaque(3)] == m.stored["l"] and held[1] is inner
    held.insert(0, Opaque(-1))
    held.append(1)
    inner["k"] = 3
    assert len(held) == 6 and held[2] is inner
    held[2]["k"] = 4
    assert m.stored["l"][2] == {"k": 4}


def test_method_that_returns_its_object_gives_the_one_that_is_saved() -> None:
    class Chain:
        n = 0

        def add(self) -> Chain:
            self.n += 1
            return self

    m: Any = Memory(Chain())
    assert m.add().add() is m and m.n == 2 == m.stored.n


def test_list_and_set_stand_on_either_side_of_an_operator(folder: Path) -> None:
    one, two = Memory([1]), Memory({1, 2})
    assert [0] + one == [0, 1] and one + [2] == [1, 2] and {5} | two == {1, 2, 5} and {1, 5} - two == {5}
    with DiskObject("list.obj", [3]) as stored, DiskObject("set.obj", {2, 3}) as other:
        assert one + stored == [1, 3] and stored + one == [3, 1] and two & other == {2} == other & two
