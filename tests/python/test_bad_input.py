"""What a user gets wrong, and what the world does: a clear, typed error, and nothing lost."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Maker
from objsync import CompressedDiskObject, DiskObject, NetworkObject, Object, errors

SHORT_S = 0.5
VALUE_BYTES_MAX = (8 << 20) - 3


@pytest.mark.parametrize(
    "value", [object(), {"a": [lambda: 0]}, Exception("no"), type, open], ids=lambda value: type(value).__name__
)
def test_value_that_cannot_be_stored_leaves_the_old_one(make: Maker, value: Any) -> None:
    with make({"a": [1]}, place="store") as d:
        for write in [lambda: d.set("a", value), lambda: d.update(a=value), lambda: d.setdefault("b", value),
                      lambda: d.compare_and_set("a", [1], value)]:  # fmt: skip
            with pytest.raises(TypeError, match="cannot be stored"):
                write()
    with make(place="store") as d:
        assert d == {"a": [1]}


def test_value_over_the_limit_leaves_the_old_one(d: Object) -> None:
    d["a"] = "old"
    with pytest.raises(ValueError, match=f"the limit is {VALUE_BYTES_MAX} bytes"):
        d["a"] = [bytes(VALUE_BYTES_MAX)]
    assert d["a"] == "old"


def test_value_at_the_limit_is_stored(d: Object) -> None:
    largest = [os.urandom(VALUE_BYTES_MAX - 6)]
    d["a"] = largest
    assert d["a"] == largest


def test_path_that_is_a_file_is_refused_and_left_alone(folder: Path) -> None:
    Path("data.obj").write_text("hello")
    with pytest.raises(ValueError, match="data.obj is a file, and a store is a directory"):
        DiskObject("data.obj")
    assert Path("data.obj").read_text() == "hello"


def test_damaged_store_names_the_file_and_is_not_emptied(folder: Path) -> None:
    with DiskObject("data.obj") as d:
        for number in range(100):
            d[f"key {number}"] = "x" * 100
    (segment,) = Path("data.obj/log").glob("*.seg")
    whole = segment.read_bytes()
    damaged = bytearray(whole)
    damaged[5000] ^= 1
    segment.write_bytes(damaged)
    for _ in range(2):
        with pytest.raises(errors.CorruptError, match=r"\.seg is damaged at byte \d+") as raised:
            DiskObject("data.obj")
        assert isinstance(raised.value, OSError)
        assert segment.read_bytes() == damaged, "nothing was changed"
    segment.write_bytes(whole)
    with DiskObject("data.obj") as d:
        assert d == {f"key {number}": "x" * 100 for number in range(100)}


def test_old_pickle_is_known_as_one_and_never_loaded(folder: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(folder / "exploded"),)

    content = pickle.dumps(Bomb())
    Path("data.pkl").write_bytes(content)
    with pytest.raises(ValueError, match="pickle"):
        DiskObject("data.pkl")
    assert Path("data.pkl").read_bytes() == content
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [("localhost", None, "localhost"), ("localhost:", None, "localhost:"), (":80", None, ":80"),
     ("localhost", 0, "port 0"), ("localhost", 65_536, "65536"), ("localhost", -1, "port -1"),
     ("localhost:http", None, "localhost:http"), ("objsync://nowhere", None, "link"), ("", None, "''|\"\"")],
)  # fmt: skip
def test_address_that_is_none_is_a_value_error_naming_it(host: str, port: int | None, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        NetworkObject(host, port)


@pytest.mark.parametrize(("host", "port"), [(5, 5), ("localhost", "8080"), (None, 8080), ("localhost", True)])
def test_address_of_another_type_is_a_type_error(host: Any, port: Any) -> None:
    with pytest.raises(TypeError):
        NetworkObject(host, port)


def test_nobody_there_and_no_promotion_is_a_connection_error(port: int) -> None:
    with pytest.raises(ConnectionError, match=str(port)):
        NetworkObject("127.0.0.1", port, promote=False, timeout=SHORT_S)


def test_somebody_else_at_the_port_is_named_and_not_overtaken(folder: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        taken: int = other.getsockname()[1]
        with pytest.raises((ConnectionError, PermissionError), match=str(taken)):
            NetworkObject("127.0.0.1", taken, timeout=SHORT_S)


def test_link_of_another_server_is_refused(port: int) -> None:
    link = f"objsync://127.0.0.1:{port}/default?server={'ab' * 32}&key={'cd' * 32}"
    with NetworkObject("127.0.0.1", port, {"a": 1}) as d:
        with pytest.raises(PermissionError):
            NetworkObject(link, timeout=SHORT_S)
        assert d == {"a": 1}


def test_refused_link_does_not_repeat_its_secret(port: int) -> None:
    link = f"objsync://127.0.0.1:{port}/default?server={'ab' * 32}&key={'cd' * 32}"
    for wrong in (link, link[:-1], link + "0", link.replace("server", "sever")):
        with pytest.raises(errors.Error) as caught:
            NetworkObject(wrong, timeout=SHORT_S)
        assert "cdcd" not in str(caught.value)


def test_garbage_at_the_port_disturbs_nobody(port: int) -> None:
    with NetworkObject("127.0.0.1", port) as d, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rude:
        for size in (1, 20, 1200, 1400):
            for _ in range(50):
                rude.sendto(os.urandom(size), ("127.0.0.1", port))
                rude.sendto(b"\xc0\x00\x00\x00\x01" + os.urandom(size), ("127.0.0.1", port))
        d["a"] = 1
        with NetworkObject("127.0.0.1", port, promote=False) as other:
            assert other["a"] == 1


def test_store_of_a_newer_format_is_refused_and_left_alone(folder: Path) -> None:
    DiskObject("store", {"a": 1}).close()
    format_file = folder / "store" / "FORMAT"
    before = format_file.read_bytes()
    newer = next(
        changed for line in before.splitlines() if (changed := _newer(before, line)) is not None
    )
    format_file.write_bytes(newer)
    with pytest.raises(errors.Error):
        DiskObject("store")
    assert format_file.read_bytes() == newer
    format_file.write_bytes(before)
    with DiskObject("store") as d:
        assert d == {"a": 1}


def _newer(whole: bytes, line: bytes) -> bytes | None:
    return whole.replace(line, line[:-1] + b"9", 1) if line[-1:].isdigit() else None


def test_store_of_another_user_is_refused(folder: Path) -> None:
    if os.getuid() != 0:
        # Only root can make a directory look like somebody else's: what is left is one closed to us.
        Path("store").mkdir(mode=0o000)
        with pytest.raises(OSError):
            DiskObject("store")
        return
    DiskObject("store", {"a": 1}).close()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgid(65_534)
            os.setuid(65_534)
            try:
                DiskObject(folder / "store")
            except OSError:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow past 1 MiB: what a full disk does, without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_write_that_finds_no_room_is_an_error_and_reads_go_on(folder: Path, small_files: None) -> None:
    with DiskObject("store", {"a": 1}, durability="buffered") as d:
        limit = max(file.stat().st_size for file in (folder / "store").rglob("*") if file.is_file())
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (min(limit, 1 << 20), hard))
        with pytest.raises(errors.Error):
            for number in range(100):
                d[number] = os.urandom(1 << 20)
        assert d["a"] == 1
        written = {key: d[key] for key in d}
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    with DiskObject("store") as d:
        assert d == written


@pytest.mark.parametrize("level", [0, 23, -1])
def test_compression_level_out_of_bounds_is_refused(folder: Path, level: int) -> None:
    with pytest.raises(ValueError, match=str(level)):
        CompressedDiskObject("store", compression_level=level)


@pytest.mark.parametrize(
    "options",
    [{"durability": "never"}, {"namespace": ""}, {"namespace": "x" * 256}],
    ids=lambda options: next(iter(options)),
)
def test_option_out_of_bounds_is_refused(make: Maker, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        make(**options)


@pytest.mark.parametrize("options", [{"replica": "half"}, {"timeout": -1}, {"timeout": float("nan")}])
def test_network_option_out_of_bounds_is_refused(port: int, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        NetworkObject("127.0.0.1", port, **options)


def test_object_that_was_never_opened_says_so() -> None:
    d = DiskObject.__new__(DiskObject)
    with pytest.raises(errors.ClosedError, match="never opened"):
        d["a"]
