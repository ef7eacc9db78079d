"""Random histories of each object beside a plain dict, with reopening in between."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from conftest import KINDS, maker_of
from objsync import MISSING
from objsync import _objsync as native
from value_strategies import values

STEPS = 30
# A shorter failure is worth less than a quick one: opening a store a thousand times takes minutes.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
HISTORIES = 12

few_keys = st.sampled_from(["a", "b", "ab", "", 0, 1, -1.5, (1, "a"), (1,), None, b"a"])


bounds = few_keys.filter(lambda key: key is not None)  # None is "no bound"


def ordered(model: dict[Any, Any]) -> list[tuple[Any, Any]]:
    return sorted(model.items(), key=lambda pair: native.encode_key(pair[0]))


class Machine(RuleBasedStateMachine):
    kind: str

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="objsync-model-"))
        self.home_before = os.environ.get("OBJSYNC_HOME")
        os.environ["OBJSYNC_HOME"] = str(self.folder / "home")
        self.make = maker_of(self.kind, self.folder)
        self.d = self.make(place="store", durability="buffered")
        self.model: dict[Any, Any] = {}

    def teardown(self) -> None:
        if hasattr(self, "d"):
            self.d.close()
            shutil.rmtree(self.folder)
            if self.home_before is not None:
                os.environ["OBJSYNC_HOME"] = self.home_before

    @rule()
    def reopen(self) -> None:
        self.d.close()
        self.d = self.make({"never": "used"}, place="store", durability="buffered")

    @rule(key=few_keys, value=values)
    def set(self, key: Any, value: Any) -> None:
        self.d[key] = value
        self.model[key] = value

    @rule(key=few_keys)
    def read(self, key: Any) -> None:
        assert self.d.get(key, MISSING) == self.model.get(key, MISSING)
        assert (key in self.d) == (key in self.model)

    @rule(key=few_keys)
    def delete(self, key: Any) -> None:
        if key in self.model:
            del self.d[key], self.model[key]
        else:
            with pytest.raises(KeyError):
                del self.d[key]

    @rule(key=few_keys)
    def pop(self, key: Any) -> None:
        assert self.d.pop(key, MISSING) == self.model.pop(key, MISSING)

    @rule()
    def popitem(self) -> None:
        if self.model:
            last = ordered(self.model)[-1]
            assert self.d.popitem() == last
            del self.model[last[0]]
        else:
            with pytest.raises(KeyError):
                self.d.popitem()

    @rule(key=few_keys, value=values)
    def setdefault(self, key: Any, value: Any) -> None:
        assert self.d.setdefault(key, value) == self.model.setdefault(key, value)

    @rule(pairs=st.dictionaries(few_keys, values, max_size=5))
    def update(self, pairs: dict[Any, Any]) -> None:
        self.d.update(pairs)
        self.model.update(pairs)

    @rule(pairs=st.lists(st.tuples(few_keys, st.none() | values), max_size=5), fails=st.booleans())
    def batch(self, pairs: list[tuple[Any, Any]], fails: bool) -> None:
        try:
            with self.d.batch() as batch:
                for key, value in pairs:
                    if value is None:
                        del batch[key]
                    else:
                        batch[key] = value
                if fails:
                    raise LookupError
        except LookupError:
            return
        for key, value in pairs:
            if value is None:
                self.model.pop(key, None)
            else:
                self.model[key] = value

    @rule(pairs=st.lists(st.tuples(few_keys, values), max_size=5))
    def pipeline(self, pairs: list[tuple[Any, Any]]) -> None:
        with self.d.pipeline() as pipeline:
            for key, value in pairs:
                pipeline[key] = value
        self.model.update(pairs)

    @rule(key=few_keys, expected=values, new=values, use_present=st.booleans())
    def compare_and_set(self, key: Any, expected: Any, new: Any, use_present: bool) -> None:
        present = self.model.get(key, MISSING)
        if use_present:
            expected = present
        assert self.d.compare_and_set(key, expected, new) == (present == expected)
        if present == expected:
            self.model[key] = new

    @rule(by=st.integers(-(2**40), 2**40))
    def incr(self, by: int) -> None:
        self.model["counter"] = self.model.get("counter", 0) + by
        assert self.d.incr("counter", by) == self.model["counter"]

    @rule(start=bounds, stop=bounds)
    def clear_range(self, start: Any, stop: Any) -> None:
        low, high = native.encode_key(start), native.encode_key(stop)
        inside = [key for key in self.model if low <= native.encode_key(key) < high]
        assert self.d.range(start, stop).clear() == len(inside)
        for key in inside:
            del self.model[key]

    @rule()
    def clear(self) -> None:
        self.d.clear()
        self.model.clear()

    @invariant()
    def same(self) -> None:
        if hasattr(self, "d"):
            assert list(self.d.items()) == ordered(self.model)
            assert list(reversed(self.d.keys())) == [key for key, _ in reversed(ordered(self.model))]
            assert len(self.d) == len(self.model)


@pytest.mark.parametrize("kind", KINDS)
def test_object_behaves_like_a_dict_through_any_history(kind: str) -> None:
    machine = type(f"{kind.title()}Machine", (Machine,), {"kind": kind})
    case = machine.TestCase
    case.settings = settings(
        max_examples=HISTORIES, stateful_step_count=STEPS, deadline=None, phases=PHASES
    )
    case().runTest()
