"""
``wirewitness sink``, spoken to as from any language.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import stat
import subprocess
import sys
import time

from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from click.testing import CliRunner

from wirewitness.cli.commands import wirewitness
from wirewitness.cli.sink import line_of
from wirewitness.conformance import Received


pytestmark = pytest.mark.processes


@contextmanager
def running(*arguments):
    command = [sys.executable, "-m", "wirewitness", "sink", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, urlsplit(process.stderr.readline().rpartition(" ")[2].strip())
        finally:
            process.kill()


def post(url, path, body, **headers):
    with closing(http.client.HTTPConnection(url.hostname, url.port, timeout=10)) as connection:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        response.read()
        return response.status


def test_it_logs_a_line_of_json_a_request_and_ends_after_so_many():
    with running("--requests", "2", "--bodies") as (process, url):
        assert post(url, "/v1/events", b"{}") == 204
        assert post(url, "/v1/events", b"[]", **{"X-Sink": "/status/503"}) == 503
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert process.wait(10) == 0
    assert [line["status"] for line in lines] == [204, 503]
    assert lines[0]["sha256"] == hashlib.sha256(b"{}").hexdigest()
    assert bytes.fromhex(lines[1]["body"]) == b"[]"
    assert ["x-sink", "/status/503"] in lines[1]["headers"]
    assert lines[0]["complete"]


def test_it_logs_into_a_file_without_the_content(tmp_path):
    log = tmp_path / "received.jsonl"
    with running("--requests", "1", "--log", str(log)) as (process, url):
        post(url, "/v1/events", b"secret")
        assert process.wait(10) == 0
    (line,) = log.read_text().splitlines()
    assert json.loads(line)["bytes"] == 6
    assert "body" not in json.loads(line)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org"])
def test_it_listens_on_loopback_unless_it_is_asked_for_more(host):
    result = CliRunner().invoke(wirewitness, ["sink", "--host", host, "--port", "0"])
    assert result.exit_code == 2
    assert "--exposed" in result.output


def test_a_port_that_is_taken_is_told(sink):
    result = CliRunner().invoke(wirewitness, ["sink", "--port", str(sink.port)])
    assert result.exit_code == 2
    assert f"can't open 127.0.0.1:{sink.port}" in result.output


def test_a_log_that_can_not_be_written_is_told(tmp_path):
    result = CliRunner().invoke(wirewitness, ["sink", "--port", "0", "--log", str(tmp_path / "no" / "log")])
    assert result.exit_code == 2
    assert "can't open" in result.output


SECRETS = {
    "Authorization": "Bearer CANARY",
    "Proxy-Authorization": "Basic CANARY",
    "Cookie": "sid=CANARY",
    "X-Api-Key": "CANARY",
    "X_Api_Key": "CANARY",
    "X-Apikey": "CANARY",
    "Ocp-Apim-Subscription-Key": "CANARY",
    "X-Amz-Security-Token": "CANARY",
    "X-Hub-Signature-256": "CANARY",
    "X-Goog-Iap-Jwt-Assertion": "CANARY",
    "X-Auth": "CANARY",
    "Referer": "https://user:CANARY@shop.example/cart?card=CANARY#CANARY",
    "X-Original-Url": "/cart;jsessionid=CANARY?card=CANARY",
}


def test_credentials_and_values_of_queries_are_logged_only_when_asked_for():
    target = "/v1/events?key=CANARY&CANARY"
    with running("--requests", "1") as (process, url):
        post(url, target, b"{}", **SECRETS)
        line = process.stdout.readline()
        assert "CANARY" not in line
        assert json.loads(line)["target"] == "/v1/events?key=REDACTED&REDACTED"
        assert {name for name, _ in json.loads(line)["headers"]} >= {name.lower() for name in SECRETS}
    with running("--requests", "1", "--credentials") as (process, url):
        post(url, target, b"{}", **SECRETS)
        told = json.loads(process.stdout.readline())
        assert told["target"] == target
        assert {name.lower(): value for name, value in SECRETS.items()}.items() <= dict(told["headers"]).items()


def test_what_is_no_secret_is_logged_as_it_is():
    fields = {"Content-Type": "application/json; charset=utf-8", "Accept": "text/html;q=0.8, */*", "Host": "a:80"}
    received = Received("POST", "/", tuple(fields.items()), b"", 0)
    assert dict(line_of(received, bodies=False)["headers"]) == fields


def test_the_log_file_is_its_user_s_own(tmp_path):
    log = tmp_path / "received.jsonl"
    log.touch(0o644)
    for path in (log, tmp_path / "new.jsonl"):
        with running("--requests", "1", "--log", str(path)) as (process, url):
            post(url, "/v1/events", b"{}")
            assert process.wait(10) == 0
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(path.read_text().splitlines()) == 1


@pytest.mark.parametrize("kind", ["a FIFO", "a link", "a device"])
def test_a_log_that_is_no_file_is_told_at_once(kind, tmp_path):
    log = tmp_path / "received.jsonl"
    if kind == "a FIFO":
        os.mkfifo(log)
    else:
        (tmp_path / "other").touch()
        log.symlink_to(tmp_path / "other" if kind == "a link" else "/dev/null")
    result = CliRunner().invoke(wirewitness, ["sink", "--port", "0", "--log", str(log)])
    assert (result.exit_code, "can't open" in result.output) == (2, True), result.output


def test_with_few_descriptors_it_goes_on_when_there_are_some_again():
    command = "import resource, sys; from wirewitness.cli import main; resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12)); main()"
    arguments = [sys.executable, "-c", command, "sink", "--port", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            url = urlsplit(process.stderr.readline().rpartition(" ")[2].strip())
            held = [socket.create_connection((url.hostname, url.port), timeout=10) for _ in range(20)]
            descriptors = Path(f"/proc/{process.pid}/fd")
            deadline = time.monotonic() + 10
            while descriptors.exists() and len(list(descriptors.iterdir())) < 12 and time.monotonic() < deadline:
                time.sleep(0.01)
            for connection in held:
                connection.close()
            assert post(url, "/v1/events", b"{}") == 204
            assert process.poll() is None
        finally:
            process.kill()


def test_sigterm_ends_it_in_good_order():
    with running() as (process, url):
        assert post(url, "/v1/events", b"{}") == 204
        process.stdout.readline()
        process.terminate()
        assert process.wait(10) == 0
