"""
What the runbooks send people to in Jaeger is there.
"""

from __future__ import annotations

import re
import shlex
import shutil
import urllib.parse

import pytest
import requests

from click.testing import CliRunner
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from rulebook import RUNBOOKS
from servers import eventually, fetched

from wirewitness import HttpSender, Outbox, Outcome, SqliteSpool, witness
from wirewitness.cli.commands import wirewitness
from wirewitness.conformance import Sink
from wirewitness.optimizely import CachedConfigManager


SERVICE, NAME = "runbooks", "searched"
FILLED_IN = {"SERVICE": SERVICE, "OUTCOME": "rejected", "ERROR_TYPE": "503", "NAME": NAME}


@pytest.fixture(scope="module")
def searched(jaeger):
    """
    The session's Jaeger, with a dispatch of each kind that a runbook asks for in it.
    """
    provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{jaeger.otlp}/v1/traces")))
    tampering = {}

    @witness(
        name=NAME, tracer_provider=provider, evidence_timeout=0.01, on_settle=lambda one: ended.append(one.outcome)
    )
    def dispatch(http_verb, url, params):
        if "nowhere" not in url:
            requests.post(url, json={**params, **tampering}, timeout=10)

    ended = []
    with Sink() as sink:
        for path in ("/v1/events", "/status/503", "/slow/2600", "/nowhere"):
            dispatch("POST", sink.url + path, {"revenue": 1250})
        tampering["revenue"] = 1251
        dispatch("POST", f"{sink.url}/v1/events", {"revenue": 1250})
        with pytest.raises(TypeError):
            dispatch("POST", f"{sink.url}/v1/events", {"visitor": object()})
        fetches = []
        datafile = CachedConfigManager(url=f"{sink.url}/status/503", tracer_provider=provider, on_fetch=fetches.append)
        eventually(lambda: fetches)
        datafile.stop()
    eventually(lambda: len(ended) == 6)
    provider.shutdown()
    assert {Outcome.DROPPED, Outcome.UNCONFIRMED} <= set(ended)
    return jaeger


def searches():
    for page in RUNBOOKS:
        for number, search in enumerate(re.findall(r"`(/search\?[^`]+)`", page.read_text())):
            yield pytest.param(search, id=f"{page.stem}-{number}")


@pytest.mark.parametrize("search", list(searches()))
def test_a_runbook_s_search_finds_what_it_says(search, searched):
    for placeholder, value in FILLED_IN.items():
        search = re.sub(rf"\b{placeholder}\b|(?<=%22){placeholder}(?=%22)", value, search)
    # As Jaeger's page asks for it: its public API takes other parameters, and would not tell what people see.
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(search).query))
    assert eventually(lambda: fetched(f"{searched.url}/api/traces", **query)["data"], 20)


def commands():
    for page in RUNBOOKS:
        for number, command in enumerate(re.findall(r"`wirewitness (spool [^`]+)`", page.read_text())):
            yield pytest.param(command, id=f"{page.stem}-{number}")


@pytest.fixture
def spool_folder(tmp_path):
    """
    What a stopped process has left: a dead letter; and a damaged file.
    """
    with Sink() as sink, Outbox(HttpSender(threads=1), spool=SqliteSpool(tmp_path / "spool")) as outbox:
        outbox("POST", f"{sink.url}/status/400", {"revenue": 1250})
        assert outbox.flush(20.0).dead == 1
    (left,) = (tmp_path / "spool").glob("*.db")
    shutil.copy(left, f"{left}.corrupt-20261124T093000")
    return tmp_path / "spool"


@pytest.mark.parametrize("command", list(commands()))
def test_a_runbook_s_command_does_something(command, spool_folder):
    done = CliRunner().invoke(wirewitness, shlex.split(command.replace("PATH", str(spool_folder))))
    assert done.exit_code == 0, done.output
    assert {"ls": ".db", "show": "status_4xx", "retry": "1 put back", "salvage": "1 dead letters"}[
        command.split()[1]
    ] in done.output
