"""A subclass of `Object` with a load and a save of its own: all faces, and nothing half saved."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import random
import re
import subprocess
import sys
import threading
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from objsync import MISSING, DiskObject, Object, errors
from programs import EXAMPLES, ROOT

DEADLINE_S = 60.0


class Memory(Object):
    """Keeps each saved state; says so before it begins to refuse."""

    def __init__(self, default_value: Any = None, *, stored: Any = MISSING) -> None:
        self.saved: list[Any] = []
        self.stored = stored
        self.refuses = False
        super().__init__(default_value)

    def load(self) -> Any:
        return self.stored

    def save(self, value: Any) -> None:
        if self.refuses:
            raise OSError("no space")
        self.stored = value
        self.saved.append(copy.deepcopy(value))


@pytest.fixture
def m() -> Memory:
    return Memory(stored={"a": {"b": [1, {"c": {2}}]}, "n": 1})


def test_change_at_any_depth_saves_the_whole_once(m: Memory) -> None:
    m["a"]["x"] = 1
    assert m.saved == [{"a": {"b": [1, {"c": {2}}], "x": 1}, "n": 1}]
    m["a"]["b"].append([3])
    m["a"]["b"][2].append(4)
    m["a"]["b"][1]["c"].add(5)
    m["a"]["b"][1]["c"] |= {6}
    m["a"]["b"] += [7]
    del m["n"]
    assert m == {"a": {"b": [1, {"c": {2, 5, 6}}, [3, 4], 7], "x": 1}} == m.saved[-1]
    assert len(m.saved) == 7


def test_what_is_saved_is_plain_and_the_storage_s_own(m: Memory) -> None:
    m["k"] = 1
    saved = m.stored
    assert [type(saved), type(saved["a"]), type(saved["a"]["b"])] == [dict, dict, list]
    assert type(saved["a"]["b"][1]["c"]) is set
    saved["a"].clear()
    assert m["a"]["b"][0] == 1, "changing it changes nothing here"


def test_containers_are_those_that_python_knows(m: Memory) -> None:
    a = m["a"]
    assert isinstance(m, MutableMapping) and isinstance(a, dict) and isinstance(a["b"], list)
    assert m["a"] is a and a["b"] is m["a"]["b"]
    assert json.dumps(m["a"]["b"][0:1]) == "[1]" and json.dumps(dict(m["a"], b=0)) == '{"b": 0}'
    for copied in (copy.copy(a), copy.deepcopy(a), pickle.loads(pickle.dumps(a)), m.copy()["a"]):
        assert copied == a and type(copied) is dict
    copied["b"].append(9)
    assert m["a"] == {"b": [1, {"c": {2}}]} and m.saved == []
    match m["a"]:
        case {"b": [1, {"c": inner}]}:
            assert inner == {2}
        case _:
            raise AssertionError("it does not match")


def test_save_that_raises_changes_nothing(m: Memory) -> None:
    before = m.copy()
    m.refuses = True
    inner = m["a"]["b"]
    calls = [
        lambda: m.__setitem__("z", 1), lambda: m.update(z=1), lambda: m.pop("n"), lambda: m.clear(),
        lambda: m.popitem(), lambda: m.setdefault("z", []), lambda: m.__ior__({"z": 1}), lambda: m.__delitem__("n"),
        lambda: m["a"].__setitem__("b", 2), lambda: inner.append(2), lambda: inner.clear(), lambda: inner.pop(),
        lambda: inner.__setitem__(slice(0, 1), [7, 8]), lambda: inner.sort(key=str, reverse=True), lambda: inner.reverse(),
        lambda: inner[1]["c"].add(3), lambda: inner[1]["c"].pop(), lambda: inner[1]["c"].__ixor__({2}),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(OSError, match="no space"):
            call()
        assert m == before == m.copy()
    m.refuses = False
    inner.append(2)
    assert m.stored["a"]["b"][-1] == 2, "and it goes on with the same containers"


def test_change_that_fails_by_itself_is_not_saved(m: Memory) -> None:
    for call, kind in [(lambda: m["a"]["b"].remove(5), ValueError), (lambda: m["a"].pop("x"), KeyError),
                       (lambda: m["a"]["b"].sort(), TypeError), (lambda: m["a"]["b"].extend(5), TypeError)]:  # fmt: skip
        with pytest.raises(kind):
            call()
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(RecursionError):
        m["a"]["circle"] = circle
    assert m.saved == [] and m == {"a": {"b": [1, {"c": {2}}]}, "n": 1}


def test_what_is_assigned_is_taken_in_as_a_copy(m: Memory) -> None:
    mine = {"list": [1]}
    m["new"] = mine
    mine["list"].append(2)
    assert m["new"] == {"list": [1]}
    m["second"] = m["new"]
    m["second"]["list"].append(3)
    assert (m["new"], m["second"]) == ({"list": [1]}, {"list": [1, 3]})
    m["new"]["self"] = m["new"]
    assert m["new"] == {"list": [1], "self": {"list": [1]}}


def test_container_that_was_replaced_or_removed_says_so(m: Memory) -> None:
    old, inner = m["a"], m["a"]["b"]
    m["a"] = {"b": []}
    for write in (lambda: old.update(x=1), lambda: inner.append(1)):
        with pytest.raises(errors.DetachedError, match="was replaced or removed"):
            write()
    popped = m.pop("a")
    popped["b"].append(1)  # what was taken out is the caller's own
    assert (popped, m.stored) == ({"b": [1]}, {"n": 1})


def test_default_value_is_used_when_load_finds_nothing(tmp_path: Any) -> None:
    default = {"a": [1]}
    assert Memory(default).stored == {"a": [1]}, "and is saved at once"
    assert Memory(default, stored={}) == {}
    assert Memory() == {} and Memory().saved == []

    class Files(Object):
        def load(self) -> Any:
            return self.deserialise((tmp_path / "f").read_bytes())

        def save(self, value: Any) -> None:
            (tmp_path / "f").write_bytes(self.serialise(value))

    files = Files(default)
    files["a"].append(2)
    assert default == {"a": [1]}
    assert Files({"never": "used"}) == {"a": [1, 2]}
    with pytest.raises(errors.UnserialisableError):
        files["a"].append(object())
    assert files == {"a": [1, 2]} == Files()
    (tmp_path / "f").write_bytes(b"\xc1")
    with pytest.raises(errors.CorruptError):
        Files(default)
    assert (tmp_path / "f").read_bytes() == b"\xc1", "what cannot be read is not replaced"


def test_list_as_root_behaves_like_a_list() -> None:
    m: Any = Memory([3, 1], stored=MISSING)
    m.append([5])
    m.extend([0, 2])
    m.insert(0, 9)
    m[2].append(6) if isinstance(m[2], list) else m[3].append(6)
    assert m == [9, 3, 1, [5, 6], 0, 2] and m.stored == list(m)
    assert (m.pop(), m.pop(0), m.index(1), m.count(3), len(m), m[0:2], m[-1]) == (2, 9, 1, 1, 4, [3, 1], 0)
    m.remove(3)
    m[0] = 4
    m += [7]
    del m[1]
    m.reverse()
    assert (list(m), list(reversed(m)), 7 in m, m + [1], m < [8]) == ([7, 0, 4], [4, 0, 7], True, [7, 0, 4, 1], True)
    m.sort()
    assert m.stored == [0, 4, 7] and repr(m) == "Memory([0, 4, 7])" and bool(m)
    m.clear()
    assert m.stored == [] and not m
    with pytest.raises(AttributeError):
        m.keys()
    with pytest.raises(IndexError):
        m.pop()


def test_set_as_root_behaves_like_a_set() -> None:
    m: Any = Memory({1}, stored=MISSING)
    m.add(2)
    m |= {3}
    assert m == {1, 2, 3} == m.stored and 3 in m and m & {3, 4} == {3} and m >= {1}


@dataclasses.dataclass
class Account:
    owner: str
    amount: int = 0
    history: list[int] = dataclasses.field(default_factory=list)

    def pay(self, amount: int) -> int:
        if amount > 100:
            raise ValueError("too much")
        self.amount += amount
        self.history.append(amount)
        return self.amount

    @property
    def is_rich(self) -> bool:
        return self.amount > 50


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int
    tags: set[str]


def test_object_as_root_has_its_attributes_and_methods() -> None:
    m: Any = Memory(Account("Ada"), stored=MISSING)
    assert (m.owner, m.pay(60), m.is_rich, m.history) == ("Ada", 60, True, [60])
    m.history.append(1)
    m.owner = "Bob"
    m.note = {"x": []}
    m.note["x"].append(2)
    assert m == m.stored and type(m.stored) is Account
    assert (m.stored.owner, m.stored.amount, m.stored.history, m.stored.note) == ("Bob", 60, [60, 1], {"x": [2]})
    del m.note
    assert not hasattr(m.stored, "note") and not hasattr(m, "note")
    with pytest.raises(ValueError, match="too much"):
        m.pay(101)
    m.refuses = True
    for call in (lambda: m.pay(1), lambda: setattr(m, "owner", "Eve"), lambda: m.history.append(5)):
        with pytest.raises(OSError):
            call()
    assert m.copy() == Account("Bob", 60, [60, 1]) == m.stored
    with pytest.raises(AttributeError):
        m.nothing  # noqa: B018


def test_object_with_slots_as_root_has_its_attributes() -> None:
    m: Any = Memory(Slotted(1, {"a"}), stored=MISSING)
    m.x += 1
    m.tags.add("b")
    assert m.stored == Slotted(2, {"a", "b"})


@pytest.mark.parametrize("value", [5, "text", None, (1,), 1.5, b"x"])
def test_root_without_content_to_change_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="is no root"):
        Memory(stored=value)


def test_close_reload_and_context_manager(m: Memory) -> None:
    with m as same:
        assert same is m
        old = m["a"]
        m.stored = {"a": 5}
        m.sync()
        assert m == {"a": 5}
        with pytest.raises(errors.DetachedError, match="loaded again"):
            old["x"] = 1
    m.close()
    for call in (lambda: m["a"], lambda: m.update(a=1), lambda: len(m), lambda: m.copy()):
        with pytest.raises(errors.ClosedError, match="Memory is closed"):
            call()
    assert "closed" in repr(m) and str(m) == repr(m) and "closed" in m._repr_html_()


def test_what_only_a_store_has_is_not_there(m: Memory) -> None:
    for name in ("watch", "lock", "last_ack", "at", "history", "transact", "serve", "status"):
        assert not hasattr(m, name), name
        assert hasattr(DiskObject, name), name


def test_handle_is_pickled_with_its_attributes_and_loads_again(m: Memory) -> None:
    m["new"] = 1
    for other in (pickle.loads(pickle.dumps(m)), copy.copy(m)):
        assert type(other) is Memory and other == m
        other["a"]["x"] = 5
        assert "x" not in m["a"]


def test_class_without_an_init_and_with_a_mixin_works() -> None:
    class Shouting:
        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(key.upper(), value)  # type: ignore[misc]

    class Plain(Shouting, Object):
        kept: Any = MISSING

        def load(self) -> Any:
            return self.kept

        def save(self, value: Any) -> None:
            type(self).kept = value

    m = Plain()
    m["a"] = {}
    m["A"]["b"] = 1
    assert Plain() == {"A": {"b": 1}} and isinstance(m, Object)

    class Careless(Object):
        def __init__(self) -> None:
            self.kept = MISSING

        load, save = Plain.load, lambda self, value: None

    assert Careless() == {}


def test_load_that_misses_an_attribute_says_which() -> None:
    class Wrong(Object):
        def load(self) -> Any:
            return self.nowhere

        def save(self, value: Any) -> None: ...

    with pytest.raises(AttributeError, match="nowhere"):
        Wrong()


def test_load_and_save_of_a_subclass_of_a_store_are_its_own_affair(folder: Any) -> None:
    class Game(DiskObject):
        def load(self) -> str:
            return "loaded"

        def save(self, value: Any) -> None:
            self["saved"] = value

    with Game("game") as game:
        game.save(1)
        assert (game.load(), dict(game), game.incr("n")) == ("loaded", {"saved": 1}, 1)


def test_many_threads_lose_nothing() -> None:
    m: Any = Memory({"l": [], "d": {}, "s": set()})
    seen_empty = threading.Event()

    def write(number: int) -> None:
        for turn in range(50):
            m["l"].append((number, turn))
            m["d"][number] = turn
            m["s"].add((number, turn))
            if not m["s"] or not m["d"] or not m["l"]:
                seen_empty.set()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    every = {(number, turn) for number in range(4) for turn in range(50)}
    assert set(m["l"]) == m["s"] == every and len(m["l"]) == 200
    assert m["d"] == dict.fromkeys(range(4), 49) and not seen_empty.is_set()
    assert m.stored == {"l": m["l"], "d": m["d"], "s": m["s"]} and len(m.saved) == 601


@pytest.mark.parametrize("seed", range(5))
def test_random_changes_do_what_they_do_to_plain_containers(seed: int) -> None:
    chance = random.Random(seed)
    print(f"seed {seed}")
    m: Any = Memory({"l": [[1], {}], "d": {"x": {}}})
    model: Any = {"l": [[1], {}], "d": {"x": {}}}
    for _ in range(300):
        one, two = m, model
        while chance.random() < 0.6:
            keys = two if isinstance(two, dict) else range(len(two))
            inner = [key for key in keys if isinstance(two[key], dict | list)]
            if not inner:
                break
            key = chance.choice(inner)
            one, two = one[key], two[key]
        m.refuses = chance.random() < 0.2
        value, key = chance.choice([1, [2, [3]], {"k": [4]}, {"a": {}}]), chance.choice("xyz")
        place = chance.randrange(7)

        def change(target: Any) -> Any:
            def new() -> Any:
                return copy.deepcopy(value)

            if isinstance(target, MutableMapping):
                name, arguments = [
                    ("__setitem__", (key, new())), ("pop", (key, None)), ("setdefault", (key, new())),
                    ("update", ({"y": new(), "z": new()},)), ("popitem", ()), ("update", ({"x": new()},)),
                    ("setdefault", ("x", new())),
                ][place]  # fmt: skip
            else:
                name, arguments = [
                    ("append", (new(),)), ("insert", (0, new())), ("extend", ([new(), new()],)), ("reverse", ()),
                    ("__setitem__", (slice(0, 1), [new()])), ("__delitem__", (slice(0, 2),)), ("__iadd__", ([new()],)),
                ][place]  # fmt: skip
            if name == "popitem" and len(target) < 3:
                return None
            return getattr(target, name)(*arguments)

        if m.refuses:
            saved = len(m.saved)
            with suppress(OSError):
                change(one)
            assert len(m.saved) == saved
        else:
            got, wanted = change(one), change(two)
            assert got == wanted or wanted is two
            assert m.stored == model
        assert m == model


def test_example_of_the_documentation_runs(folder: Path) -> None:
    page = (ROOT / "docs" / "mapping.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(snippet, {"__name__": "snippet"})
    assert Path("state.bin").exists()


def example(name: str, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_json_file_is_a_dictionary_that_is_saved(folder: Path) -> None:
    assert json.loads(example("json_file.py", "s.json")) == {"window": {"width": 640}, "recent": []}
    changed = {"window": {"width": 800}, "recent": ["window.width"]}
    assert json.loads(example("json_file.py", "s.json", "window.width", "800")) == changed
    assert json.loads(Path("s.json").read_text()) == changed == json.loads(example("json_file.py", "s.json"))
    Path("s.json").write_text("{broken")
    with pytest.raises(AssertionError, match="JSONDecodeError"):
        example("json_file.py", "s.json")
    assert Path("s.json").read_text() == "{broken"


def test_workers_of_a_pool_count_together(folder: Path) -> None:
    for number in range(3):
        Path(f"{number}.txt").write_text("the cat and the dog. " * 20)
    said = example("process_pool.py", "words.obj", "0.txt", "1.txt", "2.txt")
    assert said.startswith("300 words: the 120, ")
    with DiskObject("words.obj") as words:
        assert words[("word", "cat")] == 60 and words[("file", "1.txt")] == 100
