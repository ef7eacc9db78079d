"""What an object shows of itself: short, without waiting, whatever state it is in."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from conftest import free_port
from objsync import MISSING, CompressedDiskObject, DiskObject, NetworkObject, Object, aio
from objsync._show import value_shown

HOSTILE = "<script>alert('\"&')</script>"


def test_repr_tells_role_revision_and_keys(folder: Path) -> None:
    with DiskObject("data.obj") as d:
        d["a"], d["b"] = 1, 2
        revision = d.status.revision
        assert repr(d) == f"<DiskObject '{folder}/data.obj' owner rev {revision}, 2 keys>"
        del d["a"]
        assert repr(d).endswith(", 1 key>")
        assert str(d) == repr(d)
    assert repr(d) == f"<DiskObject '{folder}/data.obj' closed>"
    with CompressedDiskObject("zst.obj", namespace="other") as c:
        assert re.fullmatch(r"<CompressedDiskObject '.*' owner rev \d+, 0 keys in 'other'>", repr(c))


def test_repr_of_a_network_object_tells_its_address_and_what_it_lacks(port: int) -> None:
    with NetworkObject("127.0.0.1", port, {"a": 1}) as d:
        assert re.fullmatch(rf"<NetworkObject 127\.0\.0\.1:{port} owner rev \d+, 1 key>", repr(d))
        peer = NetworkObject("127.0.0.1", port, promote=False, replica="none")
        assert re.fullmatch(rf"<NetworkObject 127\.0\.0\.1:{port} \w+ rev \d+, .*>", repr(peer))
        peer.close()
    assert "closed" in repr(peer)


def test_repr_of_an_object_whose_owner_is_gone_does_not_wait_or_raise(port: int) -> None:
    with NetworkObject("127.0.0.1", port, {"a": 1}) as owner:
        peer = NetworkObject("127.0.0.1", port, promote=False, timeout=3600)
        assert peer["a"] == 1
        owner.close()
    # With an hour of patience, a call would outlast this test.
    assert repr(peer).startswith("<NetworkObject 127.0.0.1") and "<table>" in peer._repr_html_()
    peer.close()


def test_repr_of_an_object_that_never_opened_does_not_raise() -> None:
    for kind in (DiskObject, NetworkObject, CompressedDiskObject):
        bare = kind.__new__(kind)
        assert repr(bare) == f"<{kind.__name__} not open>"
        assert "not open" in bare._repr_html_()


def test_secret_of_a_link_is_not_shown() -> None:
    link = f"objsync://127.0.0.1:{free_port()}/default?server={'a' * 8}&key=sesame"
    bare = NetworkObject.__new__(NetworkObject)
    bare._recipe = (link, {})
    with DiskObject("data.obj", {"a": 1}) as d, DiskObject("list.obj", [1]) as root:
        past = d.at(d.status.revision)
        d._recipe = root._recipe = (link, {})
        shown = [repr(past), repr(root)]
    assert all("127.0.0.1" in text for text in shown)
    for text in (repr(bare), bare._repr_html_(), *shown):
        assert "sesame" not in text


def test_notebook_shows_a_table_with_hostile_keys_escaped(d: Object) -> None:
    d.update({HOSTILE: 1, "k" * 1000: 2} | {f"z{n}": n for n in range(20)})
    shown = d._repr_html_()
    assert "<script" not in shown and "&lt;script&gt;alert(" in shown
    for row in ("role", "address", "namespace", "revision", "keys", "size", "first keys"):
        assert f">{row}</th>" in shown
    assert ">22</td>" in shown and "MiB on disk" in shown
    assert ", ...<" in shown and len(shown) < 4000
    d.close()
    assert "closed" in d._repr_html_()


def test_object_of_an_event_loop_shows_the_same(folder: Path) -> None:
    async def main() -> None:
        d = aio.DiskObject("data.obj")
        assert repr(d) == "<DiskObject not open>" or "closed" in repr(d)
        async with d:
            await d.set(HOSTILE, 1)
            assert re.fullmatch(r"<DiskObject '.*' owner rev \d+, 1 key>", repr(d))
            assert "<script" not in d._repr_html_()
        assert "closed" in repr(d)

    asyncio.run(main())


LONG: tuple[Any, ...] = (
    list(range(100_000)), ["x" * 1_000_000], {"a", "b" * 1_000_000}, [[[[[[1]]]]]] * 50, [{"k": b"y" * 1_000_000}] * 7,
    [10**5000], [("t" * 500,) * 500], [{"a": {"b": ["c"] * 99}}] * 99,
)  # fmt: skip


@pytest.mark.parametrize("value", LONG)
def test_repr_of_an_object_that_is_one_long_value_is_short(folder: Path, value: Any) -> None:
    with DiskObject("data.obj", value) as d:
        assert len(repr(d)) < 250 + len(str(folder)) and repr(d).startswith(f"DiskObject('{folder}/data.obj', ")
        assert len(d._repr_html_()) < 2500 and ">value</th>" in d._repr_html_()
    own = Own(value)
    assert len(repr(own)) < 250 and len(own._repr_html_()) < 1500


def test_repr_of_the_past_of_large_values_is_short(port: int) -> None:
    with NetworkObject("127.0.0.1", port, {"a": "x" * 1_000_000, "b": list(range(1000))}) as owner:
        revision = owner.status.revision
        with NetworkObject("127.0.0.1", port, promote=False) as peer, peer.snapshot() as snapshot:
            for past in (owner.at(revision), peer.at(revision), snapshot):
                assert len(repr(past)) < 400 and "{'a': 'xxx" in repr(past)


def test_value_is_shown_as_python_writes_it_where_it_is_short(folder: Path) -> None:
    for value in ([], [1, "a", b"b", None, (1,), (), {"k": {2}}, frozenset({3}), set(), 1.5], [[1], {}]):
        with DiskObject("data.obj", []) as d:
            d[:] = value
            assert repr(d) == f"DiskObject('{folder}/data.obj', {value!r})"
    assert value_shown({"n": "x" * 100}) == "{'n': '" + "x" * 76 + "...}"
    assert value_shown(list(range(30))).endswith("18, 19, ...]") and value_shown([[[[1]], []]]) == "[[[[...]], []]]"


class Own(Object):
    def __init__(self, value: Any) -> None:
        super().__init__(value)

    def load(self) -> Any:
        return MISSING

    def save(self, value: Any) -> None: ...


@pytest.mark.parametrize("name", ["new\nline", "quo'te", "\u2028"])
def test_repr_of_an_odd_path_is_one_line(folder: Path, name: str) -> None:
    with DiskObject(name) as d:
        assert len(repr(d).splitlines()) == 1
