"""Random histories of two processes and one dictionary, beside a plain dict.

One process is this test, the other is told what to do. Either may own the store, and does by turns: the
test closes and opens its handle, the other process is killed as it stands and another one started. What
is acknowledged must be there, whoever owned it then; nothing else may be.

`OBJSYNC_HISTORIES` is how many histories there are of each kind of object; the default takes a minute.
"""

from __future__ import annotations

import base64
import os
import pickle
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from conftest import KINDS, maker_of
from objsync import _objsync as native
from programs import DEADLINE_S, Told
from value_strategies import values

HISTORIES = int(os.environ.get("OBJSYNC_HISTORIES", "6"))
STEPS = 25
# A shorter failure is worth less than a quick one: each step may start a process.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
NOTHING = "nothing is there"

keys = st.sampled_from(["a", "b", "ab", 0, 1.5, (1, "a"), None, b"a"])
sides = st.sampled_from(["here", "there"])

CALL = """
import base64, pickle
def call(name, *arguments):
    d.sync()
    try:
        if name == "update_many":
            return d.update(arguments[0], **arguments[1])
        return getattr(d, name)(*arguments)
    except KeyError as error:
        return "KeyError", error.args
def answer(asked):
    name, arguments = pickle.loads(base64.b64decode(asked))
    print(base64.b64encode(pickle.dumps(call(name, *arguments))).decode(), flush=True)
"""


class Processes(RuleBasedStateMachine):
    kind: str

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="objsync-machine-"))
        self.home_before = os.environ.get("OBJSYNC_HOME")
        os.environ["OBJSYNC_HOME"] = str(self.folder / "home")
        self.make = maker_of(self.kind, self.folder)
        self.model: dict[Any, Any] = {}
        self.other: Told | None = None
        self.open_here()
        self.start_other()

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        if self.other is not None:
            self.other.stop()
        self.d.close()
        shutil.rmtree(self.folder)
        if self.home_before is not None:
            os.environ["OBJSYNC_HOME"] = self.home_before

    def open_here(self) -> None:
        self.d = self.make(self.model or None, place="store", durability="buffered")
        self.here: dict[str, Any] = {"d": self.d}
        exec(CALL, self.here)

    def start_other(self) -> None:
        place: Path | str = self.folder / "store"
        if self.kind == "network":
            place = f"127.0.0.1:{(self.folder / 'store.port').read_text()}"
        self.other = Told(place, durability="buffered")
        if self.kind == "compressed":
            self.other.do("d.close(); d = CompressedDiskObject(place, durability='buffered')")
        self.other.do(CALL)

    def call(self, side: str, name: str, *arguments: Any) -> Any:
        if side == "here" or self.other is None:
            return self.here["call"](name, *arguments)
        asked = base64.b64encode(pickle.dumps((name, arguments))).decode()
        return pickle.loads(base64.b64decode(self.other.do(f"answer({asked!r})")))

    # What happens to processes

    @rule()
    def reopen_here(self) -> None:
        """The other process becomes the owner, if this one was it."""
        self.d.close()
        self.open_here()

    @precondition(lambda self: self.other is not None)
    @rule()
    def kill_other(self) -> None:
        """This process goes on with the handle it has: connected anew, or as the owner."""
        assert self.other is not None
        self.other.kill()
        self.other.stop()
        self.other = None

    @precondition(lambda self: self.other is None)
    @rule()
    def other_comes_back(self) -> None:
        self.start_other()

    @precondition(lambda self: self.other is not None)
    @rule()
    def owner_is_killed(self) -> None:
        """The other process is made the owner, and killed while this one is its peer."""
        assert self.other is not None
        self.d.close()
        deadline = time.monotonic() + DEADLINE_S
        while self.other.do("print(d.status.role)") != "owner":
            assert time.monotonic() < deadline, "nobody took over"
        self.open_here()
        assert self.d.status.role == "peer"
        self.other.kill()
        self.other.stop()
        self.start_other()

    # What is done with the dictionary

    @rule(side=sides, key=keys, value=values)
    def set(self, side: str, key: Any, value: Any) -> None:
        self.call(side, "__setitem__", key, value)
        self.model[key] = value

    @rule(side=sides, key=keys)
    def delete(self, side: str, key: Any) -> None:
        missing = key not in self.model
        assert self.call(side, "__delitem__", key) == (("KeyError", (key,)) if missing else None)
        self.model.pop(key, None)

    @rule(side=sides, key=keys)
    def pop(self, side: str, key: Any) -> None:
        assert self.call(side, "pop", key, NOTHING) == self.model.pop(key, NOTHING)

    @precondition(lambda self: self.model)
    @rule(side=sides)
    def popitem(self, side: str) -> None:
        last = self.ordered()[-1]
        assert self.call(side, "popitem") == last
        del self.model[last[0]]

    @rule(side=sides, key=keys, value=values)
    def setdefault(self, side: str, key: Any, value: Any) -> None:
        assert self.call(side, "setdefault", key, value) == self.model.setdefault(key, value)

    @rule(side=sides, pairs=st.dictionaries(keys, values, max_size=4), named=st.dictionaries(st.just("b"), values))
    def update(self, side: str, pairs: dict[Any, Any], named: dict[str, Any]) -> None:
        self.call(side, "update_many", pairs, named)
        self.model.update(pairs, **named)

    @rule(side=sides, by=st.integers(-5, 5))
    def incr(self, side: str, by: int) -> None:
        self.model["counter"] = self.model.get("counter", 0) + by
        assert self.call(side, "incr", "counter", by) == self.model["counter"]

    @rule(side=sides)
    def clear(self, side: str) -> None:
        self.call(side, "clear")
        self.model.clear()

    def ordered(self) -> list[tuple[Any, Any]]:
        return sorted(self.model.items(), key=lambda pair: native.encode_key(pair[0]))

    @invariant()
    def both_see_the_same(self) -> None:
        if not hasattr(self, "model"):
            return
        self.d.sync()
        assert list(self.d.items()) == self.ordered()
        assert list(reversed(self.d)) == [key for key, _ in reversed(self.ordered())]
        assert self.call("there", "copy") == self.model


@pytest.mark.timeout(60 + 20 * HISTORIES)
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_behave_like_one_dict_through_any_history(kind: str) -> None:
    case = type(f"{kind.title()}Processes", (Processes,), {"kind": kind}).TestCase
    case.settings = settings(max_examples=HISTORIES, stateful_step_count=STEPS, deadline=None, phases=PHASES)
    case().runTest()


