"""
The shop under gunicorn, killed with SIGKILL while its events' endpoint is down, and started again: no order is missing.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from wirewitness.conformance import Sink


ORDERS = 40


def unused_port() -> int:
    """
    A port that nobody listens on.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def shop(port: int, events_url: str, spool: str) -> Iterator[str]:
    """
    The shop in processes of its own, which are killed at the end: gunicorn, and all its workers.
    """
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind", f"127.0.0.1:{port}"]
    folder = Path(__file__).parent / "shop"
    process = subprocess.Popen(
        [*command, "--log-level", "error", "--chdir", str(folder), "app:app"],
        env={**os.environ, "SPOOL": spool, "EVENTS_URL": events_url},
        start_new_session=True,
    )
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(port: int) -> None:
    """
    Wait until somebody listens.
    """
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError


def visitors(endpoint: Sink) -> set[str]:
    """
    Whose orders have arrived.
    """
    payloads = [json.loads(received.body) for received in endpoint.requests]
    return {visitor["visitor_id"] for payload in payloads for visitor in payload["visitors"]}


with tempfile.TemporaryDirectory() as spool:
    web, events = unused_port(), unused_port()
    events_url = f"http://127.0.0.1:{events}/v1/events"

    with shop(web, events_url, spool) as url:
        for number in range(ORDERS):
            requests.post(f"{url}/orders/visitor-{number}", timeout=10).raise_for_status()
    print(f"{ORDERS} orders taken while nobody listened for events; killed")

    with Sink(port=events) as endpoint, shop(web, events_url, spool):
        deadline = time.monotonic() + 30
        while len(visitors(endpoint)) < ORDERS and time.monotonic() < deadline:
            time.sleep(0.1)
        print(
            f"started again: the events of {len(visitors(endpoint))} orders arrived, in {len(endpoint.requests)} payloads"
        )
