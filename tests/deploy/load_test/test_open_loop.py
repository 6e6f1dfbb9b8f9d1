"""A share of a step, sent to a function in place of an endpoint."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from deploy.client import AskError
from deploy.load_test.open_loop import Share, due_times, send

PAST = 5.0  # seconds


def share(count: int = 10, first: int = 0, most_waiting: int = 64) -> Share:
    """All requests are due at the same moment, PAST seconds ago."""
    return Share(count, time.monotonic() - PAST, 0.0, first, most_waiting)


def test_bodies_are_sent_in_turn_from_the_number_of_the_first_request() -> None:
    asked: list[bytes] = []
    sent = send(share(count=7, first=2), [b"a", b"b", b"c"], asked.append)
    assert Counter(asked) == {b"c": 3, b"a": 2, b"b": 2}
    assert (len(sent.answered), sent.errors, sent.unsent) == (7, {}, 0)


def test_a_latency_counts_from_the_time_at_which_the_request_was_due() -> None:
    sent = send(share(), [b""], lambda body: None)
    assert min(sent.answered) >= min(sent.late) >= PAST


def test_requests_are_due_at_random_times_of_the_step_which_are_the_same_at_every_run() -> None:
    times = list(due_times(Share(1000, 50.0, 4.0, 0, 64)))
    assert times == sorted(times) == list(due_times(Share(1000, 50.0, 4.0, 0, 64)))
    assert 50 <= times[0] < times[-1] <= 54
    assert 400 < sum(time < 52 for time in times) < 600
    assert len(set(times)) == 1000


def test_errors_are_counted_by_status_and_what_the_client_found_by_its_name() -> None:
    failures = iter([
        AskError(503, "overloaded", "too many requests"), AskError(503, "overloaded", "again"),
        AskError(400, "bad_request", "k is 0"), AskError(504, "timeout", "late"), AskError(502, "connection", "reset"),
    ])  # fmt: skip

    def ask(body: bytes) -> None:
        if failure := next(failures, None):
            raise failure

    sent = send(share(), [b""], ask)
    assert sent.errors == {"503": 2, "400": 1, "timeout": 1, "connection": 1}
    assert len(sent.answered) == 5
    assert sent.reasons["400"] == "k is 0 (400 bad_request)"


def test_a_share_is_broken_off_when_too_many_wait() -> None:
    gate = threading.Event()
    threading.Timer(0.2, gate.set).start()
    sent = send(share(most_waiting=3), [b""], lambda body: gate.wait())
    assert (len(sent.answered), len(sent.late), sent.unsent) == (3, 3, 7)


def test_a_mistake_of_ours_is_not_an_error_of_the_endpoint() -> None:
    def ask(body: bytes) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        send(share(), [b""], ask)
