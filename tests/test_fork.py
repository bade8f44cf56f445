"""
Forks: those that Python is told of, and those that it is not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

from collections import Counter
from pathlib import Path

import pytest

import wirewitness

from wirewitness import fork


pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.usefixtures("unmeasured"),
]


def run(script, *args):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_only_one_module_tells_python_of_forks():
    root = Path(wirewitness.__file__).parent
    callers = [path.name for path in root.rglob("*.py") if "os.register_at_fork" in path.read_text("utf-8")]
    assert callers == ["fork.py"]


def test_stages_run_in_order_in_the_child_and_in_reverse_before_it():
    script = """
    import os
    from wirewitness import fork
    said = []
    for stage in reversed(fork.ForkStage):
        fork.register(stage, before=lambda stage=stage: said.append(("before", int(stage))),
                      in_child=lambda stage=stage: said.append(("child", int(stage))))
    if not os.fork():
        print([number for when, number in said if when == "before"] == sorted(map(int, fork.ForkStage), reverse=True),
              [number for when, number in said if when == "child"] == sorted(map(int, fork.ForkStage)), flush=True)
        os._exit(0)
    os.wait()
    """
    assert run(script) == ["True", "True"]


NATIVE = """
import ctypes, os, sys, time
native_fork = ctypes.PyDLL(None).fork
"""


def test_a_fork_that_python_is_not_told_of_runs_the_childs_handlers_once():
    script = """
    from wirewitness import fork
    times = []
    fork.register(fork.ForkStage.CLIENTS, in_child=lambda: times.append(fork.was_announced()))
    fork.check()
    if native_fork() == 0:
        fork.check(); fork.check()
        print(times, flush=True)
        os._exit(0)
    os.wait()
    print(times)
    """
    assert run(NATIVE + textwrap.dedent(script)) == ["[False]", "[]"]


TOLD = sys.version_info < (3, 13)


def test_python_itself_is_told_of_a_fork_that_it_missed_where_that_is_safe():
    script = """
    import logging, threading
    from wirewitness import fork
    stop = threading.Event()
    held = threading.Event()
    def hold():
        with logging.getLogger("busy").manager.root.handlers[0].lock:
            held.set()
            stop.wait(20)
    logging.basicConfig()
    threading.Thread(target=hold, daemon=True).start()
    held.wait(20)
    child = native_fork()
    if child == 0:
        fork.check()
        if TOLD:
            # The lock that the thread held, which the child has not.
            logging.warning("not held forever")
        print(len(threading.enumerate()), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    stop.set()
    """.replace("TOLD", str(TOLD))
    assert run(NATIVE + textwrap.dedent(script)) == ["1" if TOLD else "2"]


def test_a_handler_that_fails_keeps_no_other_from_running():
    script = """
    from wirewitness import fork
    times = []
    fork.register(fork.ForkStage.FAULTS, in_child=lambda: 1 / 0)
    fork.register(fork.ForkStage.CLIENTS, in_child=lambda: times.append(1))
    if native_fork() == 0:
        fork.check()
        print(times, flush=True)
        os._exit(0)
    os.wait()
    """
    assert run(NATIVE + textwrap.dedent(script)) == ["[1]"]


@pytest.mark.parametrize(
    "used",
    [
        "unused",
        pytest.param(
            "used",
            marks=[
                pytest.mark.may_skip_in_ci("CPython 3.13 itself"),
                pytest.mark.skipif(
                    not TOLD, reason="CPython 3.13 crashes now and then in a child of a native fork with threads"
                ),
            ],
        ),
    ],
)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_worker_forked_natively_delivers_its_own_and_nothing_of_the_masters(sink, tmp_path, kind, used):
    script = """
    from wirewitness import HttpSender, Outbox, SqliteSpool
    url, folder, kind, used = sys.argv[1:]
    box = Outbox(HttpSender(threads=2), spool=SqliteSpool(folder + "/") if kind == "sqlite" else None)
    if used == "used":
        box("POST", url, {"by": "master"})
        assert box.flush(20).empty
    children = []
    for worker in range(2):
        # Where a thread waits for the interpreter's lock at this moment, CPython hangs in the child before it runs any Python:
        # the child's only thread hands the lock over to one that it does not have. See docs/outbox.md.
        time.sleep(0.3)
        child = native_fork()
        if child == 0:
            accepted = box.ledger.book().accepted
            for number in range(20):
                box("POST", url, {"by": worker, "n": number})
            remains, book = box.flush(20), box.ledger.book()
            right = (accepted, remains.empty, book.accepted, book.open) == (0, True, 20, 0)
            if not right:
                print(worker, accepted, remains, book, box.spool.stats(), flush=True)
            os._exit(0 if right else 1)
        children.append(child)
    print([os.waitpid(child, 0)[1] for child in children] == [0, 0])
    box("POST", url, {"by": "master"})
    print(box.close(20).empty, box.ledger.book().closes)
    """
    assert run(NATIVE + textwrap.dedent(script), f"{sink.url}/v1/events", str(tmp_path), kind, used) == ["True"] * 3
    by = Counter(json.loads(received.body)["by"] for received in sink.requests)
    assert by == {0: 20, 1: 20, "master": 2 if used == "used" else 1}


def test_a_witness_in_a_worker_forked_natively_counts_from_zero(sink):
    script = """
    import requests, wirewitness
    url = sys.argv[1]
    ship = wirewitness.witness(lambda http_verb, url, params: requests.post(url, json=params, timeout=5), name="ship")
    ship("POST", url, {"n": 1})
    if native_fork() == 0:
        before = ship.ledger.book().accepted
        ship("POST", url, {"n": 2})
        print(before, ship.ledger.book().accepted, ship.ledger.book().open, flush=True)
        os._exit(0)
    os.wait()
    print(ship.ledger.book().accepted)
    """
    assert run(NATIVE + textwrap.dedent(script), f"{sink.url}/v1/events") == ["0", "1", "0", "1"]


def test_the_process_that_a_check_knows_is_this_one():
    assert fork.check() is None
    assert not fork.was_announced()
