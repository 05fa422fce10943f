"""Tasks that fail are tried again, after pauses that grow."""

import pytest

from xr_terramind.blocks import run
from xr_terramind.errors import GridError, SourceError


@pytest.fixture
def pauses(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(run.time, "sleep", slept.append)
    return slept


def failing(*errors):
    left = list(errors)

    def task():
        if left:
            raise left.pop(0)
        return "done"

    return task


def test_pauses_double(pauses):
    errors = [OSError("1"), OSError("2"), SourceError("3"), OSError("4")]
    assert run.call_with_retries(failing(*errors), 4) == "done"
    assert pauses == [run.FIRST_PAUSE_S * factor for factor in (1, 2, 4, 8)]


def test_the_last_failure_is_returned_without_a_pause_behind_it(pauses):
    found = run.call_with_retries(failing(OSError("1"), OSError("2"), OSError("3")), 2)
    assert (found.reason, found.refusal) == ("OSError: 3", None)
    assert len(pauses) == 2


def test_a_refusal_is_not_tried_again(pauses):
    found = run.call_with_retries(failing(GridError("no")), 5)
    assert isinstance(found.refusal, GridError) and not pauses
