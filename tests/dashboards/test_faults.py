"""
Backends that are down, mute or broken leave dispatches as they are.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


AT_LEAST = 20

# It dispatches until both exporters have failed, and so often that there is something to export all the time.
PROGRAM = """
import json, logging, sys, threading
import requests
from wirewitness import configure_telemetry, witness

failed = {"trace": threading.Event(), "metric": threading.Event()}
lines = []

class Lines(logging.Handler):
    def emit(self, record):
        if record.name.startswith("opentelemetry"):
            lines.append([record.name, str(record.msg)])
            if record.levelno >= logging.ERROR:
                failed["metric" if "metric" in record.name else "trace"].set()

logging.getLogger().addHandler(Lines())
shutdown = configure_telemetry("shop")

@witness(name="events")
def dispatch(http_verb, url, params):
    return requests.post(url, json=params, timeout=30).status_code

answers = []
least = int(sys.argv[2])
while len(answers) < least or not all(one.is_set() for one in failed.values()):
    answers.append(dispatch("POST", sys.argv[1] + "/v1/events", {"visitor": "a"}))
book = dispatch.ledger.book()
shutdown()
print(json.dumps({"answers": sorted(set(answers)), "dispatches": len(answers), "book": str(book), "closes": book.closes,
    "lines": lines}))
"""


class Broken(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def down():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield port


@contextlib.contextmanager
def mute():
    # The kernel takes connections, and nobody ever reads them.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def answering(status):
    @contextlib.contextmanager
    def collector():
        with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
            server.status = status
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            yield server.server_port
            server.shutdown()
            thread.join()

    return collector


COLLECTORS = {"down": down, "mute": mute, "answering 503": answering(503), "answering 404": answering(404)}


def run(sink, port, least=AT_LEAST):
    """
    What became of the program's dispatches, with that collector.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, sink.url, str(least)],
        env={
            **environment,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            "OTEL_METRIC_EXPORT_INTERVAL": "50",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("collector", COLLECTORS.values(), ids=COLLECTORS)
def test_dispatches_are_delivered_and_the_book_closes_whatever_the_collector_does(collector, sink):
    with collector() as port:
        told = run(sink, port)

    number = told["dispatches"]
    assert told["answers"] == [204]
    assert told["closes"]
    assert told["book"].startswith(f"accepted {number} = delivered {number} + ")
    assert len(sink.requests) == number


@pytest.mark.parametrize("collector", COLLECTORS.values(), ids=COLLECTORS)
def test_an_exporter_that_fails_again_and_again_is_logged_once(collector, sink):
    with collector() as port:
        told = run(sink, port, least=1500)

    often = collections.Counter((logger, line) for logger, line in told["lines"])
    assert often
    assert {kind: number for kind, number in often.items() if number > 1} == {}
