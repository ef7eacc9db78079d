"""Errors as they are raised by real failures: the builtin a user would catch, with fields, and picklable."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import objsync
from conftest import free_port
from objsync import DiskObject, NetworkObject, Unregistered, errors
from objsync import _objsync as native


def key_too_long(folder: Path) -> None:
    with DiskObject("d.obj") as d:
        d["x" * 5000] = 1


def unknown_type(folder: Path) -> None:
    with DiskObject("d.obj") as d:
        d["a"] = {"b": [print]}


def class_has_changed(folder: Path) -> None:
    objsync.value(name="failures.Thing")(dataclasses.make_dataclass("Thing", ["field"]))
    with DiskObject("d.obj", {"a": Unregistered("failures.Thing", {})}) as d:
        d["a"]


def too_far_back(folder: Path) -> None:
    with tarfile.open(Path(__file__).with_name("data") / "trimmed.tar.gz") as archive:
        archive.extractall(folder / "trimmed", filter="data")
    with DiskObject(next((folder / "trimmed").rglob("FORMAT")).parent) as d:
        d.at(1)



def lock_is_held(folder: Path) -> None:
    with DiskObject("d.obj") as d, d.lock("name"), d.lock("name", timeout=0.01):
        pass


def lease_has_ended(folder: Path) -> None:
    with DiskObject("d.obj") as d:
        lease = d.lease(ttl=60)
        with lease:
            pass
        d.set("a", 1, lease=lease)


def only_to_be_read(folder: Path) -> None:
    DiskObject("d.obj").close()
    with DiskObject("d.obj", readonly=True) as d:
        d["a"] = 1


def no_store_to_read(folder: Path) -> None:
    try:
        DiskObject("typo.obj", {"a": 1}, readonly=True)
    finally:
        assert not (folder / "typo.obj").exists()


def nobody_serves(folder: Path) -> None:
    NetworkObject("127.0.0.1", free_port(), promote=False, timeout=0.2)["a"]


def bytes_are_damaged(folder: Path) -> None:
    native.decode_value(b"\xc1")


def it_is_closed(folder: Path) -> None:
    d = DiskObject("d.obj")
    d.close()
    d["a"] = 1


def no_such_package(folder: Path) -> None:
    import numpy

    payload = native.encode_value(numpy.arange(3))
    program = f"import sys, pickle; sys.modules['numpy'] = None; import objsync._objsync as n\n" \
              f"try: n.decode_value({payload!r})\n" \
              f"except ImportError as error: sys.stdout.buffer.write(pickle.dumps(error))"  # fmt: skip
    raise pickle.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)


REAL: list[tuple[Callable[[Path], None], type[errors.Error], type[Exception], dict[str, Any]]] = [
    (key_too_long, errors.InvalidError, ValueError, {}),
    (unknown_type, errors.UnserialisableError, TypeError, {"path": "value['b'][0]"}),
    (class_has_changed, errors.RebuildError, ValueError, {"name": "failures.Thing", "value": {}}),
    (too_far_back, errors.PastRetentionError, LookupError, {"revision": 1}),
    (lock_is_held, errors.LockTimeoutError, TimeoutError, {"lock": "name"}),
    (lease_has_ended, errors.LeaseExpiredError, TimeoutError, {}),
    (only_to_be_read, errors.DeniedError, PermissionError, {}),
    (no_store_to_read, errors.StoreNotFoundError, FileNotFoundError, {"errno": 2}),
    (nobody_serves, errors.UnavailableError, ConnectionError, {}),
    (bytes_are_damaged, errors.CorruptError, OSError, {}),
    (it_is_closed, errors.ClosedError, ValueError, {}),
    (no_such_package, errors.DependencyError, ImportError, {"package": "numpy"}),
]


@pytest.mark.parametrize(("fail", "kind", "builtin", "fields"), REAL, ids=lambda part: getattr(part, "__name__", ""))
def test_failure_is_the_error_that_is_promised(
    folder: Path, fail: Callable[[Path], None], kind: type[errors.Error], builtin: type[Exception], fields: dict[str, Any]
) -> None:
    with pytest.raises(builtin) as caught:
        fail(folder)
    error = caught.value
    assert type(error) is kind and isinstance(error, errors.Error)
    assert {name: getattr(error, name) for name in fields} == fields
    assert str(error) == error.message and error.message
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert (vars(again), again.args, str(again)) == (vars(error), error.args, str(error))
