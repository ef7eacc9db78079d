"""Live nesting against plain containers, with nothing read between most changes.

Goal: objects that are held go on with their own element, key and content whatever is done through others, also
before anything is read again. Method: the same changes, drawn from a seed, on live and on plain containers, which
are held across changes; what differs is named with its seed.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from objsync import DiskObject, errors

SEEDS = 60
STEPS = 40
HELD_MAX = 8
"""How many containers are held at a time."""

Change = Callable[[Any], Any]
SCALARS: list[Any] = [0, 1, 2, True, 1.0, "a", "b", None, (1, 2), 2**70, b"x", -1, 2.5]


def value(r: random.Random, depth: int = 1) -> Any:
    kind = r.randrange(8 if depth < 3 else 4)
    if kind < 4:
        return r.choice(SCALARS)
    if kind == 4:
        return {r.choice("abc"): value(r, depth + 1) for _ in range(r.randrange(3))}
    if kind == 7:
        return {r.choice(SCALARS) for _ in range(r.randrange(4))}
    return [value(r, depth + 1) for _ in range(r.randrange(4))]


def of_dict(r: random.Random) -> list[tuple[str, Change]]:
    key = r.choice("abc") if r.random() < 0.8 else r.choice(SCALARS)
    new, other = value(r), {r.choice("abc"): value(r, 2) for _ in range(r.randrange(3))}
    return [
        ("set", lambda x: x.__setitem__(key, copy.deepcopy(new))),
        ("set", lambda x: x.__setitem__(key, copy.deepcopy(new))),
        ("del", lambda x: x.__delitem__(key)),
        ("pop", lambda x: x.pop(key, 7)),
        ("popitem", lambda x: x.popitem()),
        ("setdefault", lambda x: x.setdefault(key, copy.deepcopy(new))),
        ("update", lambda x: x.update(copy.deepcopy(other))),
        ("own place", lambda x: x.__setitem__(key, x[key])),
        ("own list", lambda x: _grow(x, key)),
        ("get", lambda x: x.get(key, 3)),
        ("items", lambda x: list(x.items())),
    ]


def of_list(r: random.Random) -> list[tuple[str, Change]]:
    new, many, at = value(r), [value(r, 2) for _ in range(r.randrange(4))], r.randrange(-4, 5)
    place = slice(*(r.choice([None, None, *range(-4, 6)]) for _ in range(2)), r.choice([None, None, 2, -1]))
    return [
        ("append", lambda x: x.append(copy.deepcopy(new))),
        ("extend", lambda x: x.extend(copy.deepcopy(many))),
        ("insert", lambda x: x.insert(at, copy.deepcopy(new))),
        ("insert equal", lambda x: x.insert(at, copy.deepcopy(x[at]))),
        ("set", lambda x: x.__setitem__(at, copy.deepcopy(new))),
        ("set equal", lambda x: x.__setitem__(at, copy.deepcopy(x[at]))),
        ("slice", lambda x: x.__setitem__(place, (one for one in copy.deepcopy(many)))),
        ("del", lambda x: x.__delitem__(at)),
        ("del slice", lambda x: x.__delitem__(place)),
        ("pop", lambda x: x.pop()),
        ("pop at", lambda x: x.pop(at)),
        ("remove", lambda x: x.remove(copy.deepcopy(x[at]))),
        ("reverse", lambda x: x.reverse()),
        ("sort", lambda x: x.sort(key=lambda one: repr(canonical(one))[:3])),
        ("own place", lambda x: x.__setitem__(at, x[at])),
        ("get", lambda x: x[at]),
        ("clear", lambda x: x.clear()),
    ]


def of_set(r: random.Random) -> list[tuple[str, Change]]:
    one, many = r.choice([*SCALARS, (1.0, 2)]), {r.choice(SCALARS) for _ in range(r.randrange(4))}
    return [
        ("add", lambda x: x.add(one)),
        ("add", lambda x: x.add(one)),
        ("discard", lambda x: x.discard(one)),
        ("remove", lambda x: x.remove(one)),
        ("update", lambda x: x.update(many)),
        ("|=", lambda x: x.__ior__(many) and None),
        ("-=", lambda x: x.__isub__(many) and None),
        ("&=", lambda x: x.__iand__(many | {1, "a"}) and None),
        ("^=", lambda x: x.__ixor__(many) and None),
        ("in", lambda x: one in x),
    ]


def _grow(place: Any, key: Any) -> None:
    place[key] += [1]


def canonical(one: Any) -> Any:
    """A value with the types of what is in it and the order of dicts."""
    if isinstance(one, dict):
        return "dict", [(key, canonical(item)) for key, item in one.items()]
    if isinstance(one, list | tuple):
        return "list" if isinstance(one, list) else "tuple", [canonical(item) for item in one]
    if isinstance(one, set | frozenset):
        return "set", frozenset(one)
    return type(one).__name__, one


def result(change: Change, target: Any) -> Any:
    try:
        return canonical(change(target))
    except errors.DetachedError:
        raise
    except Exception as error:
        return next(kind for kind in type(error).__mro__ if not kind.__module__.startswith("objsync"))


def contains(whole: Any, part: Any) -> bool:
    """Whether `part` itself is in a value."""
    inner = whole.values() if isinstance(whole, dict) else whole if isinstance(whole, list) else ()
    return whole is part or any(contains(one, part) for one in inner)


class Both:
    """A live value and a plain one, and pairs of containers in them that are held."""

    def __init__(self, d: DiskObject, key: str, r: random.Random) -> None:
        self.d, self.key, self.r = d, key, r
        self.model: Any = {"a": [{}, [1], {}], "b": {1, 2}, "c": {"a": [[{}], {}]}}
        d[key] = copy.deepcopy(self.model)
        self.held: list[tuple[Any, Any]] = []

    def pair(self) -> tuple[Any, Any]:
        """Mostly one that is held, as it is: nothing is read on the way to it."""
        if self.held and self.r.random() < 0.8:
            live, plain = self.r.choice(self.held)
        else:
            live, plain = self.d[self.key], self.model
        for _ in range(self.r.randrange(3)):
            places = list(plain) if isinstance(plain, dict) else range(len(plain)) if isinstance(plain, list) else []
            inner = [place for place in places if isinstance(plain[place], dict | list | set)]
            if inner:
                place = self.r.choice(inner)
                live, plain = live[place], plain[place]
                self.held = [*self.held, (live, plain)][-HELD_MAX:]
        return live, plain

    def step(self) -> str:
        live, plain = self.pair()
        table = {dict: of_dict, list: of_list, set: of_set}[type(plain)]
        name, change = self.r.choice(table(self.r))
        name = f"{type(plain).__name__} {name}"
        before = copy.deepcopy(plain)
        try:
            found = result(change, live)
        except errors.DetachedError:
            assert not contains(self.model, plain), f"{name}: detached in its place"
            assert canonical(live) == canonical(before), f"{name}: is what it was last"
            self.held = [one for one in self.held if one[0] is not live]
        else:
            assert found == result(change, plain), name
        return name

    def compare(self) -> None:
        assert canonical(self.d[self.key]) == canonical(self.model)
        for live, plain in self.held:
            assert canonical(live) == canonical(plain)
            is_in_place = type(live._root.source).__name__ != "Gone"
            assert is_in_place == contains(self.model, plain)


def play(d: DiskObject, seed: int) -> list[str]:
    r = random.Random(seed)
    both, done = Both(d, f"v{seed}", r), []
    try:
        for _ in range(STEPS):
            done.append(both.step())
            if r.random() < 0.15:
                both.compare()
        both.compare()
    except Exception as error:
        error.add_note(f"seed {seed}, after {done}")
        raise
    return done


def test_held_objects_are_what_plain_containers_are_though_nothing_is_read_between_changes(folder: Path) -> None:
    with DiskObject("data.obj", durability="buffered") as d:
        for seed in range(SEEDS):
            play(d, seed)


def test_one_seed_is_one_run(folder: Path) -> None:
    with DiskObject("data.obj", durability="buffered") as d:
        assert play(d, 7) == play(d, 7) != play(d, 8)
