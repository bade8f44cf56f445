"""
``wirewitness sink``, spoken to as from any language.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
import sys

from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import pytest

from click.testing import CliRunner

from wirewitness.cli.commands import wirewitness


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


def test_credentials_are_logged_only_when_asked_for():
    with running("--requests", "1") as (process, url):
        post(url, "/v1/events", b"{}", Authorization="Bearer secret")
        assert ["authorization", "REDACTED"] in json.loads(process.stdout.readline())["headers"]
    with running("--requests", "1", "--credentials") as (process, url):
        post(url, "/v1/events", b"{}", Authorization="Bearer secret")
        assert ["authorization", "Bearer secret"] in json.loads(process.stdout.readline())["headers"]


def test_sigterm_ends_it_in_good_order():
    with running() as (process, url):
        assert post(url, "/v1/events", b"{}") == 204
        process.stdout.readline()
        process.terminate()
        assert process.wait(10) == 0
