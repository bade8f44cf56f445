"""
Forks: the child goes on with what its parent had, and renews it itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading

import pytest

from wirewitness.optimizely import Fetched


pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
]


def in_child(check):
    """
    Fork, and return the names of what the child found wrong.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        found = "died"
        with contextlib.suppress(BaseException):
            signal.alarm(60)
            found = ",".join(name for name, right in check() if not right)
        os.write(writing, found.encode("utf-8"))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        found = answer.read().decode("utf-8")
    os.waitpid(child, 0)
    return found


def test_a_child_serves_its_parent_s_and_renews_it_itself(cdn, manage, project, fetches):
    manager = manage()
    assert manager.get_config().revision == "7"
    cdn.publish(project | {"revision": "8"})

    def check():
        yield "the parent's", manager.get_config().revision == "7"
        yield "a thread", manager._refresher._thread.is_alive()
        yield "renewed", fetches.next(manager).outcome is Fetched.UPDATED
        yield "new", manager.get_config().revision == "8"

    assert in_child(check) == ""
    assert manager.get_config().revision == "7"
    assert len(cdn.requests) == 2


def test_a_child_of_a_parent_that_is_still_fetching_fetches_itself(cdn, manage):
    hold = threading.Event()

    def slowly(request):
        cdn.answer = cdn.published
        hold.wait(30)
        cdn.published(request)

    cdn.answer = slowly
    manager = manage()
    assert cdn.wait_for(1)

    def check():
        yield "fetched", manager.get_config().revision == "7"

    assert in_child(check) == ""
    hold.set()
    assert manager.get_config().revision == "7"


def test_a_child_counts_its_own_faults_only(cdn, manage, fetches, faults):
    cdn.answer = cdn.status(500)
    manager = manage()
    assert fetches.wait_for(1)

    def check():
        yield "none", faults("status") == 0
        fetches.next(manager)
        yield "one", faults("status") == 1

    assert in_child(check) == ""
    assert faults("status") == 1
