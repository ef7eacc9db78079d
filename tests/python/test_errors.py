"""Exceptions: one class for each thing a caller can do, each a builtin too, each picklable."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from objsync import Op, errors

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.Error)]
BUILTINS = {
    errors.CallInterruptedError: InterruptedError,
    errors.ClosedError: ValueError,
    errors.ConflictError: RuntimeError,
    errors.CorruptError: OSError,
    errors.DeniedError: PermissionError,
    errors.DetachedError: LookupError,
    errors.BypassedError: RuntimeError,
    errors.DependencyError: ImportError,
    errors.FencedError: RuntimeError,
    errors.FullError: OSError,
    errors.HistoryGapError: LookupError,
    errors.InvalidError: ValueError,
    errors.LeaseExpiredError: TimeoutError,
    errors.LockTimeoutError: TimeoutError,
    errors.NotFoundError: KeyError,
    errors.StoreNotFoundError: FileNotFoundError,
    errors.OutcomeUnknownError: TimeoutError,
    errors.PastRetentionError: LookupError,
    errors.RebuildError: ValueError,
    errors.SnapshotExpiredError: LookupError,
    errors.UnavailableError: ConnectionError,
    errors.UnserialisableError: TypeError,
    errors.UnsupportedError: RuntimeError,
}


def example(kind: type[errors.Error]) -> errors.Error:
    if kind is errors.UnserialisableError:
        return errors.UnserialisableError("what happened", "value[0]", "Thing")
    if kind is errors.RebuildError:
        return errors.RebuildError("what happened", "app.User", {"id": [7]})
    if kind is errors.DependencyError:
        return errors.DependencyError("what happened", "numpy")
    if kind is errors.PastRetentionError:
        return errors.PastRetentionError("what happened", 3, 7)
    if kind is errors.HistoryGapError:
        return errors.HistoryGapError("what happened", 3, 7, True)
    if kind is errors.StoreNotFoundError:
        return errors.StoreNotFoundError("what happened", "/srv/data.obj")
    if kind is errors.SnapshotExpiredError:
        return errors.SnapshotExpiredError("what happened", 3)
    if kind is errors.OutcomeUnknownError:
        return errors.OutcomeUnknownError("what happened", Op(3, 7, 2))
    return kind("what happened")


@pytest.mark.parametrize("kind", CLASSES)
def test_error_survives_pickling_and_copying(kind: type[errors.Error]) -> None:
    error = example(kind)
    error.add_note("a note")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert vars(pickle.loads(pickle.dumps(error, protocol))) == vars(error)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert vars(again) == vars(error)
        assert again.args == error.args


@pytest.mark.parametrize("kind", CLASSES)
def test_error_shows_its_message_and_nothing_else(kind: type[errors.Error]) -> None:
    assert str(example(kind)) == example(kind).message == "what happened"


@pytest.mark.parametrize(("kind", "builtin"), BUILTINS.items())
def test_error_is_caught_as_the_builtin(kind: type[errors.Error], builtin: type[Exception]) -> None:
    with pytest.raises(builtin):
        raise example(kind)


def test_every_class_has_a_builtin_a_number_and_a_place_in_all() -> None:
    assert {kind.__name__ for kind in CLASSES} == set(errors.__all__)
    assert set(BUILTINS) == set(CLASSES) - {errors.Error}
    numbers = [kind.number for kind in CLASSES if kind.number and "number" in vars(kind)]
    assert sorted(numbers) == list(range(1, 12))
