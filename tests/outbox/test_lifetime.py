"""
Forks, signals and the end of the interpreter: each in a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request

import pytest

from wirewitness.errors import ConfigurationError
from wirewitness.outbox import close_on_sigterm, lifetime


pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("unmeasured")]

HEAD = """
import itertools, os, signal, sys, threading, time
from wirewitness import Outcome
from wirewitness.outbox import *
URL = sys.argv[1]
def fill(outbox, numbers):
    for number in numbers:
        outbox("POST", URL, {"n": number})
def nap():
    # Short ones: CPython notices a signal that comes right before a sleep only after it.
    for _ in range(600): time.sleep(0.05)
"""


def start(script, url, *, stdin=False):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HEAD + textwrap.dedent(script), url],
        stdin=subprocess.PIPE if stdin else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(script, url):
    with start(script, url) as process:
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, out.split(), err


def numbers(sink):
    return sorted(json.loads(received.body)["n"] for received in sink.requests if received.complete)


def test_what_is_queued_at_exit_is_delivered(sink):
    code, _, err = run("outbox = Outbox(HttpSender()); fill(outbox, range(300))", f"{sink.url}/v1/events")
    assert (code, err) == (0, "")
    assert numbers(sink) == list(range(300))


def test_what_is_dispatched_while_the_interpreter_exits_is_delivered(sink):
    script = """
    import atexit
    outbox = Outbox(HttpSender())
    atexit.register(fill, outbox, range(10))
    """
    code, _, err = run(script, f"{sink.url}/v1/events")
    assert (code, err) == (0, "")
    assert numbers(sink) == list(range(10))


def test_an_endpoint_that_is_down_delays_the_exit_by_a_bounded_time_only(unused_port):
    script = """
    outbox = Outbox(HttpSender(), exit_timeout=0.5, retry=RetryPolicy(attempts=None))
    fill(outbox, range(100))
    import atexit
    atexit._run_exitfuncs()
    book = outbox.ledger.book()
    print(book.closes, book.open, book.accepted)
    """
    code, out, _ = run(script, f"http://127.0.0.1:{unused_port}/")
    assert (code, out) == (0, ["True", "0", "100"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_starts_empty_and_the_parent_keeps_what_it_accepted(sink):
    script = """
    gate = threading.Event()
    sender = HttpSender()
    class Late:
        threads = 1
        def send(self, message):
            gate.wait()
            return sender.send(message)
    outbox = Outbox(Late())
    fill(outbox, range(100))
    child = os.fork()
    if child == 0:
        book = outbox.ledger.book()
        assert (book.accepted, book.open) == (0, 0), book
        assert outbox.gauges().size == 0
        gate.set()
        fill(outbox, range(1000, 1010))
        remains = outbox.close(10.0)
        os._exit(0 if remains.empty and outbox.ledger.book().count(Outcome.DELIVERED) == 10 else 1)
    _, status = os.waitpid(child, 0)
    gate.set()
    print(status, outbox.close(10.0).empty, outbox.ledger.book().count(Outcome.DELIVERED))
    """
    code, out, err = run(script, f"{sink.url}/v1/events")
    assert (code, out, err) == (0, ["0", "True", "100"], "")
    assert numbers(sink) == [*range(100), *range(1000, 1010)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_while_the_queue_is_full_and_threads_send_loses_nothing(sink):
    script = """
    outbox = Outbox(HttpSender(threads=4), spool=MemorySpool(most=200), overflow=Block(20.0))
    stop = threading.Event()
    def produce(begin):
        fill(outbox, range(begin, begin + 200))
    threads = [threading.Thread(target=produce, args=(at * 1000,)) for at in range(4)]
    for thread in threads: thread.start()
    children = []
    for at in range(5):
        child = os.fork()
        if child == 0:
            fill(outbox, range(10_000 + at * 10, 10_000 + at * 10 + 10))
            os._exit(0 if outbox.close(20.0).empty else 1)
        children.append(child)
    for thread in threads: thread.join()
    print([os.waitpid(child, 0)[1] for child in children] == [0] * 5, outbox.close(20.0).empty)
    """
    code, out, err = run(script, f"{sink.url}/v1/events")
    # From 3.12 on, Python itself warns of forks in processes with threads.
    assert (code, out) == (0, ["True", "True"]), err
    expected = [at * 1000 + n for at in range(4) for n in range(200)] + [10_000 + n for n in range(50)]
    assert numbers(sink) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("library", ["multiprocessing", "billiard"])
def test_processes_of_multiprocessing_and_of_celerys_billiard_deliver_each_their_own(sink, library):
    script = """
    import LIBRARY
    outbox = Outbox(HttpSender())
    def work(at):
        fill(outbox, [at])
        outbox.flush(10.0)
    if __name__ == "__main__":
        fill(outbox, [100])
        context = LIBRARY.get_context("fork")
        processes = [context.Process(target=work, args=(at,)) for at in range(4)]
        for process in processes: process.start()
        for process in processes: process.join()
        print(*[process.exitcode for process in processes])
    """.replace("LIBRARY", library)
    code, out, err = run(script, f"{sink.url}/v1/events")
    assert (code, out) == (0, ["0"] * 4), err
    assert numbers(sink) == [0, 1, 2, 3, 100]


def test_sigterm_drains_and_then_ends_the_process_as_it_would_have(sink):
    script = """
    outbox = Outbox(HttpSender())
    close_on_sigterm()
    fill(outbox, range(200))
    print("ready", flush=True)
    nap()
    """
    process = start(script, f"{sink.url}/v1/events")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (-signal.SIGTERM, "")
    assert numbers(sink) == list(range(200))


def test_sigterm_calls_the_applications_own_handler_after_the_drain(sink):
    script = """
    outbox = Outbox(HttpSender())
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: (print(outbox.ledger.book().open), done.set()))
    close_on_sigterm()
    fill(outbox, range(50))
    print("ready", flush=True)
    while not done.wait(0.05): pass
    """
    process = start(script, f"{sink.url}/v1/events")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "0\n", "")
    assert numbers(sink) == list(range(50))


def test_only_the_main_thread_may_ask_for_sigterm():
    errors = []

    def ask():
        try:
            close_on_sigterm()
        except ConfigurationError as error:
            errors.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert "main" in errors[0]


def test_a_signal_handler_may_dispatch_inside_a_dispatch(sink):
    script = """
    outbox = Outbox(HttpSender(threads=2), spool=MemorySpool(most=100_000))
    taken, nested, numbers = [], [], itertools.count(100_000)
    def handler(*_):
        # Another signal may come at any place in here; no deeper than a slow machine and a fast timer make it.
        if len(taken) < 100 and len(nested) < 5:
            nested.append(1)
            number = next(numbers)
            taken.append(number)
            outbox("POST", URL, {"n": number})
            nested.pop()
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    number = 0
    while len(taken) < 100:
        outbox("POST", URL + "?quiet", {"n": number})
        number += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    accepted = outbox.ledger.book().accepted
    print(accepted == number + len(taken), outbox.close(50.0).empty, outbox.ledger.book().count(Outcome.DELIVERED) == accepted)
    print(number, len(taken))
    """
    code, out, err = run(script, f"{sink.url}/v1/events")
    assert (code, out[:3], err) == (0, ["True"] * 3, "")
    put, handled = int(out[3]), int(out[4])
    assert handled >= 100
    assert numbers(sink) == [*range(put), *range(100_000, 100_000 + handled)]


def test_a_finalizer_may_dispatch_inside_a_dispatch(sink):
    script = """
    import gc
    outbox = Outbox(HttpSender(), spool=MemorySpool(most=100_000))
    dispatched = []
    class Circle:
        def __init__(self):
            self.me = self
        def __del__(self):
            dispatched.append(1)
            outbox("POST", URL, {"n": len(dispatched)})
    gc.set_threshold(20)
    for number in range(500):
        Circle()
        outbox("POST", URL, {"n": 10_000 + number})
    gc.set_threshold(700)
    # Another thread's collection makes ours do nothing.
    while len(dispatched) < 500:
        gc.collect()
        time.sleep(0.01)
    print(outbox.close(30.0).empty, outbox.ledger.book().count(Outcome.DELIVERED))
    """
    code, out, err = run(script, f"{sink.url}/v1/events")
    assert (code, out, err) == (0, ["True", "1000"], "")
    assert numbers(sink) == [*range(1, 501), *range(10_000, 10_500)]


def test_under_gevent_its_threads_are_greenlets_and_it_delivers(sink):
    pytest.importorskip("gevent")
    script = """
    import gevent
    outbox = Outbox(HttpSender(threads=4))
    gevent.joinall([gevent.spawn(fill, outbox, range(at * 10, at * 10 + 10)) for at in range(10)])
    print(outbox.close(20.0).empty, outbox.ledger.book().count(Outcome.DELIVERED))
    """
    head = "from gevent import monkey; monkey.patch_all()\n"
    done = subprocess.run(
        [sys.executable, "-c", head + HEAD + textwrap.dedent(script), f"{sink.url}/v1/events"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True 100\n", "")
    assert numbers(sink) == list(range(100))


CHILD = """
def work(at, url):
    outbox = OUTBOX if OWN is None else OWN()
    for number in range(5):
        outbox("POST", url, {"n": at * 100 + number})
OWN = None
OUTBOX = Outbox(HttpSender(threads=2), spool=SPOOL)
if __name__ == "__main__":
    context = LIBRARY.get_context("METHOD")
    processes = [context.Process(target=work, args=(at, URL)) for at in range(2)]
    for process in processes: process.start()
    for process in processes: process.join()
    print(*[process.exitcode for process in processes])
"""


@pytest.mark.parametrize(
    ("library", "method"),
    [
        ("multiprocessing", "fork"),
        ("multiprocessing", "spawn"),
        pytest.param("multiprocessing", "forkserver", marks=pytest.mark.slow("a second way to spawn")),
        ("billiard", "fork"),
        pytest.param("billiard", "spawn", marks=pytest.mark.slow("a second way to spawn")),
    ],
)
@pytest.mark.parametrize("spool", ["None", "SqliteSpool(FOLDER)"])
def test_a_child_that_ends_in_os_exit_delivers_what_it_accepted(sink, tmp_path, library, method, spool):
    path = tmp_path / "program.py"
    body = CHILD.replace("LIBRARY", library).replace("METHOD", method).replace("SPOOL", spool)
    path.write_text(HEAD + f"import {library}\nFOLDER = {str(tmp_path)!r} + '/spool/'\n" + body)
    done = subprocess.run(
        [sys.executable, str(path), f"{sink.url}/v1/events"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["0", "0"]), done.stderr
    assert numbers(sink) == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]


def test_a_worker_of_a_process_pool_delivers_what_it_accepted(sink, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        HEAD
        + textwrap.dedent("""
        from concurrent.futures import ProcessPoolExecutor
        outbox = Outbox(HttpSender())
        def work(number):
            outbox("POST", URL, {"n": number})
        if __name__ == "__main__":
            with ProcessPoolExecutor(2) as pool:
                list(pool.map(work, range(10)))
        """)
    )
    done = subprocess.run(
        [sys.executable, str(path), f"{sink.url}/v1/events"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert numbers(sink) == list(range(10))


@pytest.mark.parametrize("spool", ["None", "SqliteSpool(sys.argv[2])"])
@pytest.mark.parametrize("registered", ["before the import", "before the Outbox", "after the Outbox"])
def test_what_the_application_sends_in_its_own_atexit_function_is_delivered(sink, tmp_path, spool, registered):
    script = f"""
    import atexit, sys
    def last():
        for number in range(3):
            outbox("POST", URL, {{"n": 10 + number}})
    if {registered!r} == "before the import": atexit.register(last)
    from wirewitness.outbox import *
    URL = sys.argv[1]
    if {registered!r} == "before the Outbox": atexit.register(last)
    outbox = Outbox(HttpSender(threads=2), spool={spool})
    if {registered!r} == "after the Outbox": atexit.register(last)
    outbox("POST", URL, {{"n": 1}})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), f"{sink.url}/v1/events", f"{tmp_path}/spool/"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert numbers(sink) == [1, 10, 11, 12]


def test_what_comes_after_the_last_close_is_kept_on_disk_where_it_cannot_be_sent(tmp_path, unused_port):
    script = """
    import atexit, sys
    def last():
        for number in range(3):
            outbox("POST", sys.argv[1], {"n": number})
    atexit.register(last)
    from wirewitness.outbox import *
    outbox = Outbox(HttpSender(threads=2), spool=SqliteSpool(sys.argv[2]), exit_timeout=0.5)
    outbox("POST", sys.argv[1], {"n": 10})
    """
    arguments = (f"http://127.0.0.1:{unused_port}/", f"{tmp_path}/spool/")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    code, out, err = run(
        f"outbox = Outbox(HttpSender(), spool=SqliteSpool({arguments[1]!r}), exit_timeout=0.1); print(outbox.ledger.book().open)",
        "",
    )
    assert (code, out, err) == (0, ["4"], "")


def test_one_outbox_that_fails_at_exit_keeps_no_other_from_sending(sink):
    script = """
    def stop(http_verb, url, params):
        raise SystemExit(3)
    first = Outbox(HttpSender())
    broken = Outbox(HttpSender(), exit_timeout=0.5)
    stopping = Outbox(stop, exit_timeout=0.5)
    second = Outbox(HttpSender())
    for at, outbox in enumerate((broken, stopping, first, second)): outbox("POST", URL, {"n": at})
    def interrupt(timeout): raise KeyboardInterrupt
    broken.close = broken.drain = interrupt
    threading.excepthook = lambda *_: None
    """
    code, _, err = run(script, f"{sink.url}/v1/events")
    assert code == 0, err
    assert {2, 3} <= set(numbers(sink))


def test_an_inner_dispatcher_with_a_thread_pool_delivers_what_is_accepted_at_exit(sink):
    script = """
    import requests
    from concurrent.futures import ThreadPoolExecutor
    pool = ThreadPoolExecutor(2)
    def dispatch(http_verb, url, params):
        pool.submit(requests.post, url, json=params, timeout=5)
    outbox = Outbox(dispatch)
    fill(outbox, range(20))
    """
    code, _, err = run(script, f"{sink.url}/v1/events")
    assert (code, err) == (0, "")
    assert numbers(sink) == list(range(20))


SIGTERM = """
import atexit
outbox = Outbox(HttpSender(threads=2), spool=SPOOL)
APPLICATION
close_on_sigterm()
print("ready", flush=True)
number, end = 0, time.monotonic() + 20
while time.monotonic() < end and not stop():
    fill(outbox, [number])
    number += 1
    time.sleep(0.01)
fill(outbox, [number])
print(number, flush=True)
"""


@pytest.mark.parametrize("spool", ["None", "SqliteSpool(FOLDER)"])
@pytest.mark.parametrize(
    "application",
    [
        """
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(time.monotonic()))
stop = lambda: asked and time.monotonic() > asked[0] + 1.0
""",
        """
began = time.monotonic()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
stop = lambda: time.monotonic() > began + 2.0
""",
    ],
    ids=["its own handler", "ignored"],
)
def test_what_comes_after_sigterm_is_delivered_as_long_as_the_application_lives(sink, tmp_path, application, spool):
    script = SIGTERM.replace("APPLICATION", application).replace("SPOOL", spool)
    process = start(script.replace("FOLDER", repr(f"{tmp_path}/spool/")), f"{sink.url}/v1/events")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=40)
    assert (process.returncode, err) == (0, "")
    assert numbers(sink) == list(range(int(out) + 1))


def test_sigterm_stops_the_first_process_of_a_container(sink):
    # The system delivers no default action to such a process: here, by an `os.kill` that does nothing.
    script = """
    outbox = Outbox(HttpSender())
    close_on_sigterm()
    fill(outbox, range(20))
    print("ready", flush=True)
    os.kill = lambda *_: None
    nap()
    """
    process = start(script, f"{sink.url}/v1/events")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + signal.SIGTERM, "")
    assert numbers(sink) == list(range(20))


@pytest.mark.parametrize("spool", ["None", "SqliteSpool(sys.argv[2])"])
@pytest.mark.parametrize("made", ["before the patch", "in the parent"])
def test_a_monkey_patch_that_comes_late_holds_no_greenlet(sink, tmp_path, spool, made):
    pytest.importorskip("gevent")
    # As gunicorn --preload -k gevent: the Outbox is made first, then comes a fork, then the patch. Where a native primitive
    # blocks the hub, each of the naps takes seconds.
    script = f"""
    import warnings
    outbox = Outbox(HttpSender(threads=2), spool={spool})
    if {made!r} == "in the parent":
        fill(outbox, [0])
        outbox.flush(20)
        child = os.fork()
        if child:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    warnings.simplefilter("ignore")
    from gevent import monkey
    monkey.patch_all()
    import gevent
    for number in range(1, 4):
        fill(outbox, [number])
        for _ in range(10): gevent.sleep(0.05)
    print(outbox.close(20.0).empty, flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(script), f"{sink.url}/v1/events", f"{tmp_path}/spool/"],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert numbers(sink) == [0, 1, 2, 3][made != "in the parent" :]


APPLICATION = """
import os
from wirewitness.outbox import HttpSender, Outbox, SqliteSpool
folder = os.environ["FOLDER"]
outbox = Outbox(HttpSender(threads=2), spool=SqliteSpool(folder) if folder else None)
outbox("POST", os.environ["URL"], {"n": 0})
def app(environ, start):
    outbox("POST", os.environ["URL"], {"n": int(environ["PATH_INFO"][1:])})
    start("200 OK", [("Content-Length", "0")])
    return [b""]
"""


@pytest.mark.slow("starts servers")
@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_workers_of_gunicorn_with_a_preloaded_application_deliver_and_hold_no_request(sink, tmp_path, worker, durable):
    pytest.importorskip("gunicorn")
    (tmp_path / "application.py").write_text(APPLICATION)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "URL": f"{sink.url}/v1/events",
        "FOLDER": f"{tmp_path}/spool/" if durable else "",
    }
    command = ["gunicorn", "--preload", "-k", worker, "-w", "2", "-b", f"127.0.0.1:{port}", "application:app"]
    with subprocess.Popen([sys.executable, "-m", *command], env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            for number in range(1, 8):
                end = time.monotonic() + 30
                while True:
                    try:
                        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{number}", timeout=20):
                            break
                    except OSError:
                        assert time.monotonic() < end
                        time.sleep(0.1)
                # Longer than a thread stays up after its last message.
                time.sleep(0.3)
            server.send_signal(signal.SIGTERM)
            assert server.wait(40) == 0
        finally:
            server.kill()
    assert numbers(sink) == list(range(8))


def test_the_signal_with_which_celery_ends_a_child_delivers_what_it_accepted(sink):
    # Celery itself is not installed for the tests: its pool sends this signal, and then calls os._exit.
    script = """
    import types
    class Signal:
        def connect(self, receiver, weak=True, dispatch_uid=None): self.receiver = receiver
    signals = types.ModuleType("celery.signals")
    signals.worker_process_shutdown = Signal()
    sys.modules["celery.signals"] = signals
    outbox = Outbox(HttpSender(threads=2))
    child = os.fork()
    if not child:
        fill(outbox, range(10))
        signals.worker_process_shutdown.receiver(sender=None, pid=os.getpid(), exitcode=0)
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    code, _, err = run(script, f"{sink.url}/v1/events")
    assert (code, err) == (0, "")
    assert numbers(sink) == list(range(10))


def test_flush_does_not_wait_for_what_no_other_thread_can_send(sink):
    # As where HTTP is mocked: the call returns, and leaves no trace. What the dispatcher sends later still counts.
    script = """
    import json, requests
    kept = []
    outbox = Outbox(kept.append, evidence_timeout=900)
    fill(outbox, range(3))
    print(outbox.flush(900).why["in_flight"], flush=True)
    for event in kept:
        requests.post(event.url, json.dumps(event.params), timeout=5)
    print(outbox.flush(900).empty, outbox.ledger.book().count(Outcome.DELIVERED), flush=True)
    """
    process = start(script, f"{sink.url}/v1/events")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.splitlines(), err) == (0, ["3", "True 3"], "")


def test_a_thread_that_could_send_is_waited_for():
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    try:
        assert not lifetime.is_alone()
    finally:
        go_on.set()
        thread.join()
