"""
Forks: the child goes on with what its parent had, and renews it itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
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


@pytest.mark.processes
def test_a_monkey_patch_that_comes_late_holds_no_greenlet_that_waits_for_the_first_datafile(cdn):
    pytest.importorskip("gevent")
    cdn.answer = cdn.hang
    script = """
import sys, warnings
from wirewitness.optimizely import CachedConfigManager
manager = CachedConfigManager(url=sys.argv[1], timeout=1.0)
warnings.simplefilter("ignore")
from gevent import monkey
monkey.patch_all()
import gevent
ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.01)
gevent.spawn(tick)
gevent.spawn(manager.get_config).join()
print(len(ticks) > 5, flush=True)
import os; os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, cdn.url], capture_output=True, text=True, timeout=40, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
