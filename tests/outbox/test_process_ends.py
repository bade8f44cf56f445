"""
How processes end, and what becomes of what was accepted: the rows of docs/outbox.md's table that no signal of ours softens.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from test_lifetime import numbers, run, start


pytestmark = [
    pytest.mark.processes,
    pytest.mark.usefixtures("unmeasured"),
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]

# Nothing of what is accepted leaves the process, so that all of it depends on what is kept.
HELD = """
class Held:
    threads = 1
    def send(self, message): nap()
outbox = Outbox(Held(), spool=SqliteSpool(FOLDER, durability="DURABILITY"))
fill(outbox, range(20))
"""
NEXT = """
outbox = Outbox(HttpSender(), spool=SqliteSpool(FOLDER))
fill(outbox, [100])
print(outbox.flush(30.0).empty)
"""

ENDS = {
    "os._exit": ("os._exit(3)", 3),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); nap()", -signal.SIGTERM),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL); nap()", -signal.SIGKILL),
    "abort": ("os.abort()", -signal.SIGABRT),
}


def the_next_process_delivers(folder, sink):
    code, out, err = run(NEXT.replace("FOLDER", repr(folder)), f"{sink.url}/v1/events")
    assert (code, out, err) == (0, ["True"], "")


@pytest.mark.parametrize("durability", ["sync", "group"])
@pytest.mark.parametrize("end", ENDS)
def test_what_a_spool_on_disk_has_is_delivered_by_the_next_process_whatever_ended_the_first(
    sink, tmp_path, end, durability
):
    statement, expected = ENDS[end]
    # With "group", what came in the last milliseconds may be lost: the table says so.
    wait = "" if durability == "sync" else "assert outbox.spool.sync(20.0)\n"
    held = HELD.replace("DURABILITY", durability).replace("FOLDER", repr(f"{tmp_path}/spool/"))
    code, _, _ = run(held + wait + statement, f"{sink.url}/v1/events")
    assert code == expected
    assert sink.requests == []
    the_next_process_delivers(f"{tmp_path}/spool/", sink)
    assert numbers(sink) == [*range(20), 100]


def test_what_a_flush_has_delivered_is_not_sent_again_after_os_exit(sink, tmp_path):
    script = """
    outbox = Outbox(HttpSender(), spool=SqliteSpool(FOLDER))
    fill(outbox, range(20))
    os._exit(0 if outbox.flush(20.0).empty else 1)
    """.replace("FOLDER", repr(f"{tmp_path}/spool/"))
    assert run(script, f"{sink.url}/v1/events")[0] == 0
    the_next_process_delivers(f"{tmp_path}/spool/", sink)
    assert numbers(sink) == [*range(20), 100]


def test_a_flush_before_os_exit_delivers_what_is_only_in_memory(sink):
    script = """
    outbox = Outbox(HttpSender())
    fill(outbox, range(20))
    os._exit(0 if outbox.flush(20.0).empty else 1)
    """
    code, _, err = run(script, f"{sink.url}/v1/events")
    assert (code, err) == (0, "")
    assert numbers(sink) == list(range(20))


POOL = """
import multiprocessing
outbox = Outbox(HttpSender(threads=2), spool=SPOOL)
def work(number): fill(outbox, [number])
def nothing(): pass
BEFORE
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2, INITIALIZER) as pool:
        pool.map(work, range(20))
"""


@pytest.mark.parametrize(
    ("before", "initializer"),
    [("close_on_sigterm()", "nothing"), ("", "close_on_sigterm")],
    ids=["before", "in the child"],
)
def test_the_workers_of_a_pool_that_is_terminated_deliver_where_sigterm_drains(sink, before, initializer):
    script = POOL.replace("BEFORE", before).replace("INITIALIZER", initializer).replace("SPOOL", "None")
    code, _, err = run(script, f"{sink.url}/v1/events")
    assert (code, err) == (0, "")
    assert numbers(sink) == list(range(20))


def test_what_the_workers_of_a_pool_that_is_terminated_have_on_disk_is_delivered_by_the_next_process(sink, tmp_path):
    spool = f"SqliteSpool({str(tmp_path / 'spool')!r}, durability='sync')"
    script = POOL.replace("BEFORE", "").replace("INITIALIZER", "nothing").replace("SPOOL", spool)
    code, _, err = run(script, f"{sink.url}/v1/events")
    assert (code, err) == (0, "")
    the_next_process_delivers(str(tmp_path / "spool"), sink)
    # What was being sent when the signal came may be sent twice.
    assert set(numbers(sink)) == {*range(20), 100}


FREEZE = """
outbox = Outbox(HttpSender(threads=2, timeout=5.0), spool=SPOOL)
fill(outbox, range(10))
print("accepted", flush=True)
for line in sys.stdin:
    fill(outbox, range(10, 20))
    print(outbox.flush(30.0).empty, outbox.ledger.book().count(Outcome.DELIVERED), flush=True)
"""


def frozen(process):
    """Stop a process as a sandbox between two calls is stopped, and wait until it is."""
    process.send_signal(signal.SIGSTOP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


@pytest.mark.parametrize("spool", ["None", "SqliteSpool(FOLDER)"])
def test_a_process_that_is_frozen_and_thawed_delivers_what_it_accepted(sink, tmp_path, spool):
    script = FREEZE.replace("SPOOL", spool.replace("FOLDER", repr(f"{tmp_path}/spool/")))
    process = start(script, f"{sink.url}/slow/100", stdin=True)
    try:
        assert process.stdout.readline() == "accepted\n"
        frozen(process)
        # Longer than the endpoint takes for what is in flight.
        time.sleep(0.5)
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate("again\n", timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out.split(), err) == (0, ["True", "20"], "")
    assert set(numbers(sink)) == set(range(20))


def test_what_a_frozen_process_has_on_disk_is_delivered_by_the_next_where_it_is_never_thawed(sink, tmp_path):
    held = HELD.replace("DURABILITY", "sync").replace("FOLDER", repr(f"{tmp_path}/spool/"))
    process = start(held + "print('accepted', flush=True)\nnap()", f"{sink.url}/v1/events")
    try:
        assert process.stdout.readline() == "accepted\n"
        frozen(process)
        # A sandbox that is given up gets no other signal.
        process.kill()
        process.communicate(timeout=60)
    finally:
        process.kill()
    the_next_process_delivers(f"{tmp_path}/spool/", sink)
    assert numbers(sink) == [*range(20), 100]
