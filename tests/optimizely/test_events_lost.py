"""
What the books of events tell of a thread that has died, and in one collection; and instrumenting across a fork.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from opentelemetry.metrics import Observation
from optimizely.event.event_processor import BatchEventProcessor
from optimizely.optimizely import Optimizely

from wirewitness.optimizely import EventBook, book_of, instrument, uninstrument


# SDKs before 5 make their thread a daemon in a way that Python has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:setDaemon:DeprecationWarning")


class Taker:
    def __init__(self):
        self.events = []

    def dispatch_event(self, event):
        self.events.append(event)


@pytest.fixture
def totals(seen, request):
    """
    What the metrics tell of a processor that is named as the test, in one collection.
    """

    def read():
        accepted, pending, ended = "accepted", "pending", "settled"
        found = {accepted: 0, pending: 0, "dispatched": 0, "dropped": 0, "abandoned": 0}
        batch = seen._reader.get_metrics_data()
        for metric in (one for of in batch.resource_metrics for scope in of.scope_metrics for one in scope.metrics):
            of_events, _, which = metric.name.partition("wirewitness.events.")
            for point in metric.data.data_points if not of_events and which in {accepted, pending, ended} else ():
                if point.attributes["processor"] == request.node.name:
                    found[point.attributes.get("outcome", which)] += point.value
        return found

    return read


@pytest.fixture
def make(datafile, seen, request, close):
    made = []

    def make(**options):
        taker = Taker()
        processor = type(request.node.name, (BatchEventProcessor,), {})(taker, **options)
        client = instrument(Optimizely(datafile, event_dispatcher=taker, event_processor=processor), **seen.options)
        made.append(client)
        return client

    yield make
    for client in made:
        close(client)
        uninstrument(client)


def track(client, count):
    for number in range(count):
        client.track("order_placed", f"visitor {number}")


def test_events_behind_one_that_kills_the_sdk_s_thread_are_abandoned_without_any_further_call(make, totals):
    client = make(batch_size=2, flush_interval=100)
    client.track("order_placed", "ada", event_tags={"made": object()})
    track(client, 3)

    client.event_processor.start()
    client.event_processor.executor.join()

    assert totals() == {"accepted": 4, "pending": 0, "dispatched": 0, "dropped": 2, "abandoned": 2}
    assert book_of(client) == EventBook(accepted=4, dropped=2, abandoned=2)


def test_a_collection_closes_though_events_come_between_its_instruments(make, totals, monkeypatch):
    client = make()

    def observation(*given):
        track(client, 1)
        return Observation(*given)

    monkeypatch.setattr("wirewitness.telemetry.events.Observation", observation)
    first, second = totals(), totals()

    assert first["accepted"] < second["accepted"]
    for told in (first, second):
        assert told["accepted"] == told["pending"] + told["dispatched"] + told["dropped"] + told["abandoned"]


PROGRAM = """
import os
import sys
import threading
from pathlib import Path
from optimizely.optimizely import Optimizely
from wirewitness.optimizely import instrument

datafile = Path(sys.argv[1]).read_text()
inside, over = threading.Event(), threading.Event()

class Slow:
    @property
    def dispatch_event(self):
        inside.set()
        over.wait()
        return print

client = Optimizely(datafile)
client.event_dispatcher = Slow()
thread = threading.Thread(target=instrument, args=(client,), daemon=True)
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    instrument(Optimizely(datafile))
    print("instrumented", flush=True)
    os._exit(0)
os.waitpid(child, 0)
over.set()
thread.join()
"""


@pytest.mark.processes
@pytest.mark.usefixtures("unmeasured")
def test_a_child_forked_while_a_client_is_instrumented_can_instrument_its_own(datafile, tmp_path):
    (tmp_path / "datafile.json").write_text(datafile)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, str(tmp_path / "datafile.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            told, _ = process.communicate(timeout=30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert told == "instrumented\n"
