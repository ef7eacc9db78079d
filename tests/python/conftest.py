"""What the tests of the Python package share: folders of their own, and one object of each kind."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from objsync import CompressedDiskObject, DiskObject, NetworkObject, Object, _classes

KINDS = ("disk", "compressed", "network")

settings.register_profile(
    "objsync",
    deadline=None,  # machines that run these tests are shared: time is pytest's to bound
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("objsync")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test, with a home for stores of its own."""
    monkeypatch.setenv("OBJSYNC_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Leaves the classes of the process as they were."""
    tables = (_classes.takers, _classes._by_name, _classes._by_class)
    before = [dict(table) for table in tables]
    yield
    for table, was in zip(tables, before, strict=True):
        table.clear()
        table.update(was)


def free_port() -> int:
    """A UDP port of loopback that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture
def port() -> int:
    return free_port()


Maker = Callable[..., Object]


def maker_of(kind: str, folder: Path) -> Maker:
    """Makes objects of one kind, each call with no place given on a new store."""
    made = iter(range(1_000_000))

    def make(default_value: dict | None = None, place: str | None = None, **options: object) -> Object:
        place = place or f"store-{next(made)}"
        if kind == "disk":
            return DiskObject(folder / place, default_value, **options)
        if kind == "compressed":
            return CompressedDiskObject(folder / place, default_value, **options)
        file = folder / f"{place}.port"
        if not file.exists():
            file.write_text(str(free_port()))
        return NetworkObject("127.0.0.1", int(file.read_text()), default_value, **options)

    return make


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, folder: Path) -> Maker:
    """Makes objects, of each kind in turn."""
    return maker_of(request.param, folder)


@pytest.fixture
def d(make: Maker) -> Iterator[Object]:
    """An open, empty object of each kind."""
    with make() as made:
        yield made
