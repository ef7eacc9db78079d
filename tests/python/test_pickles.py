"""States of older programs: pickles come in when somebody says that they may run, and whole or not at all."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard

import objsync
from objsync import DiskObject, Object, import_pickle
from objsync.errors import DeniedError, InvalidError, UnserialisableError

STATE: dict[Any, Any] = {"name": "disk", "blocks": {0: b"x" * 512, 1: (1, [2])}, ("a", 1): None, 7: 1.5}
RAN: list[str] = []


def run(text: str) -> None:
    RAN.append(text)


class Bomb:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self) -> Any:
        return run, ("it ran",)


def plain(path: str, state: Any, protocol: int | None = None) -> str:
    Path(path).write_bytes(pickle.dumps(state, protocol))
    return path


def packed(path: str, state: Any) -> str:
    """As blockdevice writes it: one frame, or several where it was written in pieces."""
    data = pickle.dumps(state)
    half = len(data) // 2
    Path(path).write_bytes(zstandard.compress(data[:half]) + zstandard.compress(data[half:]))
    return path


@pytest.mark.parametrize("write", [plain, packed], ids=["pkl", "zst"])
def test_state_comes_back_and_into_a_store(folder: Path, write: Any) -> None:
    file = write("old.state", STATE)
    assert import_pickle(file, trust=True) == STATE
    assert import_pickle(Path(file), "new.obj", trust=True) == len(STATE)
    with DiskObject("new.obj") as d:
        assert d.copy() == STATE
    assert sorted(path.name for path in folder.iterdir()) == ["new.obj", "old.state"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_pickle_is_read(folder: Path, protocol: int) -> None:
    assert import_pickle(plain("old.pkl", STATE, protocol), trust=True) == STATE


@pytest.mark.parametrize("trust", [False, None, 1, "yes"])
def test_nothing_runs_without_trust(folder: Path, trust: Any) -> None:
    RAN.clear()
    for file in (plain("bomb.pkl", Bomb()), packed("bomb.zst", Bomb())):
        with pytest.raises(DeniedError, match="run the code.*trust=True"):
            import_pickle(file, trust=trust)
        with pytest.raises(PermissionError):
            import_pickle(file)
    assert RAN == []
    import_pickle("bomb.pkl", trust=True)
    assert RAN == ["it ran"]


def test_docstring_says_that_it_runs_code() -> None:
    assert "runs code" in (import_pickle.__doc__ or "")


@pytest.mark.parametrize(
    "path", ["http://host/a.pkl", "https://host/a", "file:///tmp/a.pkl", "s3://bucket/a", "//server/share/a", "\\\\server\\a"]
)  # fmt: skip
def test_address_is_refused(path: str) -> None:
    with pytest.raises(InvalidError, match="is an address"):
        import_pickle(path, trust=True)


def test_what_is_no_regular_file_is_refused(folder: Path) -> None:
    os.mkfifo("pipe")
    for path in ("pipe", ".", "/dev/null"):
        with pytest.raises(InvalidError, match="no regular file"):
            import_pickle(path, trust=True)
    with pytest.raises(FileNotFoundError):
        import_pickle("nowhere.pkl", trust=True)


def test_object_takes_the_state_whole_or_not_at_all(d: Object) -> None:
    d["kept"] = 1
    before = d.status.revision
    assert import_pickle(plain("old.pkl", STATE), d, trust=True) == len(STATE)
    assert d.copy() == STATE | {"kept": 1}
    assert d.status.revision == before + 1
    with pytest.raises(UnserialisableError) as caught:
        import_pickle(plain("bad.pkl", {"a": 1, "z": [len]}), d, trust=True)
    assert caught.value.path == "value[0]"
    with pytest.raises(InvalidError, match="16777216 bytes"):
        import_pickle(plain("big.pkl", {n: [os.urandom(6 << 20)] for n in range(4)}), d, trust=True)
    assert d.copy() == STATE | {"kept": 1}


def test_new_store_is_there_whole_or_not_at_all(folder: Path) -> None:
    large = {n: bytes(5 << 20) for n in range(5)}
    assert import_pickle(packed("big.zst", large), "big.obj", trust=True) == 5
    with DiskObject("big.obj") as d:
        assert d.copy() == large
    with pytest.raises(TypeError):
        import_pickle(plain("bad.pkl", large | {"z": len}), "bad.obj", trust=True)
    assert not [path for path in folder.iterdir() if "obj" in path.name and path.name != "big.obj"]
    RAN.clear()
    with pytest.raises(InvalidError, match="is there already"):
        import_pickle(plain("bomb.pkl", Bomb()), "big.obj", trust=True)
    assert RAN == [], "it is refused before the pickle is loaded"


@pytest.mark.parametrize("state", [[1, 2], 7, None], ids=repr)
def test_state_that_is_no_mapping_is_returned_and_not_put(folder: Path, state: Any) -> None:
    file = plain("old.pkl", state)
    assert import_pickle(file, trust=True) == state
    with pytest.raises(TypeError, match=f"is a {type(state).__name__}, no mapping"):
        import_pickle(file, "new.obj", trust=True)
    assert not Path("new.obj").exists()


def test_damaged_file_raises_and_leaves_nothing(folder: Path) -> None:
    data = Path(packed("old.zst", STATE)).read_bytes()
    Path("cut.zst").write_bytes(data[:-5])
    Path("cut.pkl").write_bytes(pickle.dumps(STATE)[:-5])
    Path("empty.pkl").write_bytes(b"")
    for file in ("cut.zst", "cut.pkl", "empty.pkl"):
        with pytest.raises((OSError, EOFError, pickle.UnpicklingError)):
            import_pickle(file, "new.obj", trust=True)
    assert not Path("new.obj").exists()


def test_terminal_sees_progress_of_many_keys(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import_pickle(plain("many.pkl", dict.fromkeys(range(6000))), "one.obj", trust=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    import_pickle("many.pkl", "two.obj", trust=True)
    assert capsys.readouterr().err == "\rimported 5000 of 6000 keys\rimported 6000 of 6000 keys\n"
    import_pickle(plain("few.pkl", STATE), "three.obj", trust=True)
    assert capsys.readouterr().err == ""


def test_command_line_imports_and_asks_for_trust(folder: Path) -> None:
    file = packed("old.zst", STATE)
    run = [sys.executable, "-m", "objsync", "import-pickle", file, "new.obj"]
    refused = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1 and "DeniedError" in refused.stderr and not Path("new.obj").exists()
    done = subprocess.run([*run, "--trust"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "4 keys\n"), done.stderr
    with DiskObject("new.obj") as d:
        assert d.copy() == STATE


def test_pickle_is_loaded_in_one_place_only() -> None:
    package = Path(objsync.__file__).parent
    naming = {path.name for path in package.rglob("*.py") if "import pickle" in path.read_text()}
    assert naming == {"_pickles.py"}
