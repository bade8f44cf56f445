"""
What goes wrong in production: nothing accepted is lost, what is sent twice is counted, and the book closes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time

from collections import Counter
from dataclasses import replace

import h11
import pytest

from outbox_events import FAST

from wirewitness import Outcome
from wirewitness.conformance import Sink
from wirewitness.outbox import Breakers, HttpSender, RetryPolicy, SqliteSpool


pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("unmeasured")]

PATIENT = RetryPolicy(attempts=None, base=0.01, ceiling=0.05, retry_after_ceiling=0.05)


def brisk():
    return Breakers(failures=3, cooldown=0.02, ceiling=0.1)


@pytest.fixture(params=["memory", "group", "sync"])
def spool(request, tmp_path):
    """
    The options for an Outbox with each spool.
    """
    if request.param == "memory":
        return {}
    return {"spool": SqliteSpool(tmp_path / "spool", durability=request.param)}


def fill(outbox, url, numbers):
    for number in numbers:
        outbox("POST", url, {"n": number})


def numbers(sink):
    return [json.loads(received.body)["n"] for received in sink.requests if received.complete]


def assert_all_delivered(outbox, count):
    book = outbox.ledger.book()
    assert book.closes
    assert (book.accepted, book.count(Outcome.DELIVERED), book.open) == (count, count, 0)


def test_an_endpoint_that_is_down_for_a_while_gets_all(make, spool, unused_port_number):
    outbox = make(retry=PATIENT, breakers=brisk(), **spool)
    fill(outbox, f"http://127.0.0.1:{unused_port_number}/v1/events", range(60))
    assert outbox.flush(0.3).remaining == 60
    with Sink(port=unused_port_number) as sink:
        assert outbox.flush(20.0).empty
        assert sorted(numbers(sink)) == list(range(60))
    assert_all_delivered(outbox, 60)


def test_an_endpoint_that_flaps_gets_all(make, spool, sink):
    sink.script("/flapping", [503, 503, 204, 503, 500, 204, 204, 429, 502, 503, 204, 408] * 5)
    outbox = make(retry=PATIENT, breakers=brisk(), **spool)
    fill(outbox, f"{sink.url}/flapping", range(40))
    assert outbox.flush(20.0).empty
    assert set(numbers(sink)) == set(range(40))
    assert_all_delivered(outbox, 40)
    assert outbox.ledger.book().exchanges == len(sink.requests)


def test_a_slow_endpoint_gets_all(make, spool, sink):
    outbox = make(HttpSender(threads=8), **spool)
    fill(outbox, f"{sink.url}/slow/50", range(40))
    assert outbox.flush(20.0).empty
    assert sorted(numbers(sink)) == list(range(40))
    assert_all_delivered(outbox, 40)


def test_an_endpoint_too_slow_for_the_timeout_is_tried_again_and_then_given_up(make, spool, sink):
    outbox = make(HttpSender(threads=4, timeout=0.05), retry=RetryPolicy(attempts=2, base=0.01, ceiling=0.02), **spool)
    fill(outbox, f"{sink.url}/slow/2000", range(3))
    assert outbox.flush(20.0).dead == 3
    book = outbox.ledger.book()
    assert book.closes
    assert (book.count(Outcome.FAILED), book.exchanges) == (3, 6)


class Forgetful:
    """
    An endpoint that takes a whole request and resets the connection in place of an answer, the first time for each body.
    """

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.bodies = []
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1/events"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            parser = h11.Connection(h11.SERVER)
            body = b""
            while True:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    parser.receive_data(connection.recv(65536))
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    with self._lock:
                        self.bodies.append(body)
                        first = self.bodies.count(body) == 1
                    if first:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    else:
                        connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                    return
                elif isinstance(event, h11.ConnectionClosed):
                    return


def test_a_reset_before_the_answer_duplicates_each_payload_once_and_the_book_counts_both_requests(make, spool):
    endpoint = Forgetful()
    outbox = make(retry=PATIENT, breakers=brisk(), **spool)
    fill(outbox, endpoint.url, range(20))
    assert outbox.flush(20.0).empty
    endpoint.close()
    times = Counter(endpoint.bodies)
    assert set(times.values()) == {2}
    assert len(times) == 20
    assert_all_delivered(outbox, 20)
    assert outbox.ledger.book().exchanges == 40


def test_a_retry_after_is_honoured_up_to_its_ceiling(make, spool, sink):
    outbox = make(retry=replace(FAST, lifetime=1.0), **spool)
    fill(outbox, f"{sink.url}/status/429?retry-after=3600", range(2))
    assert outbox.flush(20.0).dead == 2
    # An hour was asked for, and the ceiling is 0.05 s. Being told to come back later costs a message no attempt.
    assert len(sink.requests) > 2 * FAST.attempts


def test_an_endpoint_that_answers_500_for_ever_ends_in_dead_letters(make, spool, sink):
    outbox = make(breakers=brisk(), **spool)
    fill(outbox, f"{sink.url}/status/500", range(10))
    assert outbox.flush(20.0).dead == 10
    book = outbox.ledger.book()
    assert book.closes
    assert book.count(Outcome.REJECTED) == 10
    assert outbox.spool.stats().dead == 10


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0 * 365])
def test_a_wall_clock_that_jumps_delays_nothing_and_expires_nothing(make, spool, sink, monkeypatch, jump):
    outbox = make(**spool)
    wall, wall_ns = time.time, time.time_ns
    fill(outbox, f"{sink.url}/flaky/2/503", range(1))
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    monkeypatch.setattr(time, "time_ns", lambda: wall_ns() + int(jump * 1e9))
    fill(outbox, f"{sink.url}/v1/events", range(1, 10))
    assert outbox.flush(20.0).empty
    assert set(numbers(sink)) == set(range(10))
    assert_all_delivered(outbox, 10)


KILLED = """
import os, random, signal, sys, time
from wirewitness.outbox import *
from wirewitness.outbox.lifetime import close_all
url, path, durability, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
chance = random.Random(20)

def outbox():
    return Outbox(
        HttpSender(threads=2),
        spool=SqliteSpool(path, durability=durability),
        retry=RetryPolicy(attempts=None, base=0.01, ceiling=0.05),
    )

def accept_for_ever(at, write):
    box = outbox()
    number = 0
    while True:
        number += 1
        name = f"{at}-{number}"
        box("POST", url, {"n": name})
        os.write(write, f"{name} {time.monotonic_ns()}\\n".encode())
        time.sleep(0.0005)

for at in range(rounds):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        accept_for_ever(at, write)
    os.close(write)
    said = os.read(read, 1)  # it has begun
    time.sleep(chance.uniform(0.0, 0.06))
    killed_at = time.monotonic_ns()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while piece := os.read(read, 1 << 16):
        said += piece
    os.close(read)
    for line in said.decode().splitlines():
        words = line.split()
        if len(words) == 2:
            print(words[0], (killed_at - int(words[1])) / 1e9)
box = outbox()
remains = box.close(60.0)
assert remains.empty, remains
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "rounds", [5, pytest.param(50, marks=pytest.mark.slow("fifty processes, one after the other"))]
)
@pytest.mark.parametrize("durability", ["sync", "group"])
def test_after_sigkill_at_any_point_what_was_accepted_is_delivered(sink, tmp_path, durability, rounds):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, f"{sink.url}/v1/events", tmp_path / "spool", durability, str(rounds)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    accepted = {name: float(age) for name, age in (line.split() for line in done.stdout.splitlines())}
    arrived = Counter(numbers(sink))
    lost = {name: age for name, age in accepted.items() if name not in arrived}
    assert len(accepted) > rounds
    if durability == "sync":
        assert lost == {}
    else:
        # The documented window: a group interval of 5 ms and a commit, on a machine that is busy with more than this.
        assert max(lost.values(), default=0.0) < 0.5
    duplicates = sum(arrived.values()) - len(arrived)
    # At most what two senders had in flight, and what was acknowledged in the last group, in each round.
    assert duplicates <= len(arrived)


FULL = """
import resource, sys
from wirewitness import Outcome
from wirewitness.outbox import *
url, path = sys.argv[1:]
box = Outbox(
    HttpSender(threads=2),
    spool=SqliteSpool(path, durability="group", memory_bytes=8 << 20),
    retry=RetryPolicy(attempts=None, base=0.01, ceiling=0.05),
    breakers=Breakers(failures=3, cooldown=0.02, ceiling=0.1),
)
resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, resource.RLIM_INFINITY))
for number in range(2000):
    box("POST", url, {"n": number, "padding": "x" * 500})
print("filled", box.spool.stats().faults != (), flush=True)
sys.stdin.readline()
remains = box.close(60.0)
book = box.ledger.book()
print(remains.empty, book.closes, book.accepted, book.count(Outcome.DELIVERED))
"""


def test_on_a_full_disk_what_was_accepted_is_held_in_memory_and_delivered(tmp_path, unused_port_number):
    process = subprocess.Popen(
        [sys.executable, "-c", FULL, f"http://127.0.0.1:{unused_port_number}/v1/events", tmp_path / "spool"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first = process.stdout.readline()
    with Sink(port=unused_port_number) as sink:
        out, err = process.communicate("\n", timeout=90)
        assert (process.returncode, first.split()[:1]) == (0, ["filled"]), err
        assert set(numbers(sink)) == set(range(2000))
    assert out.split() == ["True", "True", "2000", "2000"]
    assert first.split() == ["filled", "True"]


def test_a_process_that_is_terminated_leaves_its_payloads_to_the_next(tmp_path, unused_port_number):
    script = """
    import sys, time
    from wirewitness.outbox import *
    box = Outbox(HttpSender(), spool=SqliteSpool(sys.argv[2], durability="group"), retry=RetryPolicy(attempts=None))
    for number in range(30):
        box("POST", sys.argv[1], {"n": number})
    box.spool.sync(5.0)
    print("held", flush=True)
    time.sleep(30)
    """
    url, path = f"http://127.0.0.1:{unused_port_number}/v1/events", str(tmp_path / "spool")
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), url, path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    second = "import sys; from wirewitness.outbox import *; b = Outbox(HttpSender(), spool=SqliteSpool(sys.argv[1])); print(b.close(20.0).empty, b.ledger.book())"
    with Sink(port=unused_port_number) as sink:
        done = subprocess.run(
            [sys.executable, "-c", second, path], capture_output=True, text=True, timeout=60, check=False
        )
        assert sorted(numbers(sink)) == list(range(30))
    assert done.stdout.startswith("True accepted 30 = delivered 30"), done.stderr
