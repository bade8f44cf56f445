"""
Dispatchers with one defect each, over real sockets: the kit finds it, and blames nobody else for what's none.
"""

from __future__ import annotations

import os
import textwrap
import time

from pathlib import Path

import pytest

from wirewitness.conformance.runner import Aim, check
from wirewitness.conformance.suite import choose


pytestmark = pytest.mark.processes


MODULE = """
    import gzip, json, os, queue, signal, subprocess, sys, threading, time, uuid, warnings
    import requests

    def post(event, body=None, **options):
        body = json.dumps(event.params) if body is None else body
        return requests.post(event.url, data=body, headers=event.headers, timeout=10, **options)

    def returns_an_id(event):
        try:
            post(event)
        except requests.RequestException:
            pass
        return str(uuid.uuid4())

    def trusts_anybody(event):
        warnings.simplefilter("ignore")
        post(event, verify=False)

    def compact(event):
        post(event, json.dumps(event.params, separators=(",", ":"))).raise_for_status()

    def gzipped(event):
        event.headers["Content-Encoding"] = "gzip"
        post(event, gzip.compress(json.dumps(event.params).encode(), mtime=0)).raise_for_status()

    def batched(event):
        post(event, '{"batch": [' + json.dumps(event.params) + "]}").raise_for_status()

    def restamped(event):
        for attempt in range(3):
            response = post(event, json.dumps({**event.params, "attempt": attempt} if attempt else event.params))
            if response.ok:
                return
        response.raise_for_status()

    class StampsLater:
        def dispatch_event(self, event):
            def run():
                time.sleep(0.05)
                body = json.dumps(event.params)
                event.params["sent_at"] = "now"
                post(event, body)
            threading.Thread(target=run).start()

    class DrainsAndDies:
        def __init__(self):
            self.queue = queue.Queue()
            threading.Thread(target=self.run, daemon=True).start()
            signal.signal(signal.SIGTERM, self.end)

        def dispatch_event(self, event):
            self.queue.put((event.url, json.dumps(event.params), event.headers))

        def run(self):
            while True:
                url, body, headers = self.queue.get()
                requests.post(url, data=body, headers=headers, timeout=10)
                self.queue.task_done()

        def end(self, *_):
            self.queue.join()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    def leaves_a_child(event):
        post(event)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open(os.environ["PID_FILE"], "a").write(f"{child.pid} ")

    def patches_json(event):
        json.dumps = lambda *_, **__: "patched"

    def with_a_default(event=None):
        post(event)
"""


@pytest.fixture
def played(tmp_path, monkeypatch):
    (tmp_path / "defects.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)

    def play(name, *scenarios, **options):
        found = check(Aim(f"defects:{name}", **{"settle": 0.5, **options}), choose(scenarios))
        assert [each.scenario.name for each in found if each.agreement.agrees is False] == []
        return {each.scenario.name: (each.result.mark.value, each.result.reason) for each in found}

    return play


@pytest.mark.parametrize(
    ("name", "scenario", "mark", "words"),
    [
        ("returns_an_id", "status/503", "fail", "sent once, nobody told"),
        ("returns_an_id", "transport/refused", "fail", "nobody told"),
        ("trusts_anybody", "transport/tls_untrusted", "fail", "nobody vouches for"),
        ("restamped", "status/503", "fail", "2 of 3 requests carried other bytes"),
        ("StampsLater", "caller/not_mutated", "fail", "changed in place"),
        ("DrainsAndDies", "shutdown/sigterm", "pass", "3 of 3 arrived"),
    ],
)
def test_a_defect_is_found_and_a_virtue_is_none(played, name, scenario, mark, words):
    found, reason = played(name, scenario)[scenario]
    assert (found, words in reason) == (mark, True), reason


@pytest.mark.parametrize(
    ("name", "words"),
    [("compact", "same JSON value"), ("gzipped", "same JSON value"), ("batched", "inside a larger content")],
)
def test_another_form_is_told_once_and_held_against_nothing_else(played, name, words):
    found = played(name, "payload/plain", "status/503", "status/307", "concurrency/threads")
    mark, reason = found.pop("payload/plain")
    assert (mark, words in reason) == ("warn", True)
    assert {mark for mark, _ in found.values()} == {"pass"}


def test_what_a_dispatcher_leaves_behind_is_ended(played, tmp_path, monkeypatch):
    monkeypatch.setenv("PID_FILE", str(tmp_path / "pids"))
    assert played("leaves_a_child", "payload/plain")["payload/plain"][0] == "pass"
    for pid in (tmp_path / "pids").read_text().split():
        assert _ended(int(pid))


def _ended(pid):
    # The signal is on its way; and whoever adopted the child may not have reaped it yet.
    for _ in range(500):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.01)
    return False


def test_a_dispatcher_that_patches_what_the_report_is_written_with_stops_no_other_scenario(played):
    found = played("patches_json", "payload/plain", "payload/empty")
    assert {mark for mark, _ in found.values()} == {"fail"}


def test_a_function_with_a_default_is_a_dispatcher_where_the_shape_says_so(played):
    assert played("with_a_default", "payload/plain", shape="event")["payload/plain"][0] == "pass"
