"""
``opentelemetry-instrument`` observes the clients of an application that knows nothing of it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import shutil
import subprocess
import sys

from pathlib import Path

import pytest

from optimizely.optimizely import Optimizely

from wirewitness import ConfigurationError, ledger_of
from wirewitness.conformance import Sink


pytest.importorskip("opentelemetry.instrumentation")


class Nowhere:
    def dispatch_event(self, event):
        pass


@pytest.fixture
def instrumentor(seen):
    from wirewitness.optimizely.instrumentor import OptimizelyInstrumentor

    one = OptimizelyInstrumentor()
    one.instrument(skip_dep_check=True, **seen.options)
    yield one
    if one.is_instrumented_by_opentelemetry:
        one.uninstrument()


def is_witnessed(client):
    try:
        ledger_of(client.event_dispatcher)
    except ConfigurationError:
        return False
    return True


def test_every_new_client_is_instrumented_and_given_back_at_the_end(datafile, instrumentor, close):
    client = Optimizely(datafile, event_dispatcher=Nowhere())
    assert is_witnessed(client)

    instrumentor.uninstrument()

    assert not is_witnessed(client)
    other = Optimizely(datafile, event_dispatcher=Nowhere())
    assert not is_witnessed(other)
    assert "__wrapped__" not in vars(Optimizely.__init__)
    for one in (client, other):
        close(one)


def test_a_client_keeps_its_class_s_signature_and_its_own_faults(instrumentor):
    import inspect

    assert "event_dispatcher" in inspect.signature(Optimizely).parameters
    with pytest.raises(TypeError, match="no_such_option"):
        Optimizely(no_such_option=True)


def test_a_fault_of_the_instrumentation_gives_the_client_as_it_is(datafile, instrumentor, monkeypatch, close):
    monkeypatch.setattr("wirewitness.optimizely.instrumentor.instrument", None)

    client = Optimizely(datafile, event_dispatcher=Nowhere())

    assert client.is_valid
    assert not is_witnessed(client)
    close(client)


def test_it_says_which_sdk_it_is_made_for(instrumentor):
    assert list(instrumentor.instrumentation_dependencies()) == ["optimizely-sdk >= 4, < 6"]


APPLICATION = """
import sys
from pathlib import Path

import requests
from opentelemetry import trace
from optimizely.event.event_processor import ForwardingEventProcessor
from optimizely.optimizely import Optimizely


class Shop:
    def dispatch_event(self, event):
        requests.post(sys.argv[2], json=event.params, timeout=10)


shop = Shop()
client = Optimizely(Path(sys.argv[1]).read_text(), event_dispatcher=shop, event_processor=ForwardingEventProcessor(shop))
with trace.get_tracer("shop").start_as_current_span("request"):
    client.create_user_context("ada").decide("new_checkout")
getattr(client, "close", lambda: None)()
"""


def command():
    beside = Path(sys.executable).parent / "opentelemetry-instrument"
    return str(beside) if beside.exists() else shutil.which("opentelemetry-instrument")


def is_declared():
    names = {one.name for one in importlib.metadata.entry_points(group="opentelemetry_instrumentor")}
    distros = importlib.metadata.entry_points(group="opentelemetry_distro")
    return command() is not None and "optimizely" in names and bool(list(distros))


@pytest.mark.processes
@pytest.mark.skipif(not is_declared(), reason="needs opentelemetry-distro, and this package installed")
def test_the_command_observes_an_application_without_a_line_of_code(datafile, tmp_path):
    (tmp_path / "datafile.json").write_text(datafile)
    (tmp_path / "app.py").write_text(APPLICATION)
    exporters = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "console", "OTEL_LOGS_EXPORTER": "none"}
    with Sink() as sink:
        told = subprocess.run(
            [command(), sys.executable, tmp_path / "app.py", tmp_path / "datafile.json", f"{sink.url}/v1/events"],
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
            env={**os.environ, **exporters},
        ).stdout

        assert len(sink.requests) == 1
    for shown in ('"dispatch Shop"', '"feature_flag.evaluation"', '"wirewitness.outcome": "delivered"'):
        assert shown in told
    for metric in ("wirewitness.decisions", "wirewitness.events.settled", "wirewitness.ledger.accepted"):
        assert f'"{metric}"' in told


def test_another_tools_later_patch_stays_and_ours_in_it_is_idle(datafile, instrumentor, close, monkeypatch):
    calls = []
    ours = Optimizely.__init__

    def theirs(self, *args, **kwargs):
        calls.append(1)
        ours(self, *args, **kwargs)

    monkeypatch.setattr(Optimizely, "__init__", theirs)
    instrumentor.uninstrument()
    assert Optimizely.__init__ is theirs
    client = Optimizely(datafile, event_dispatcher=Nowhere())
    assert not is_witnessed(client)

    instrumentor.instrument(skip_dep_check=True)
    again = Optimizely(datafile, event_dispatcher=Nowhere())
    assert is_witnessed(again)
    instrumentor.uninstrument()
    assert Optimizely.__init__ is theirs
    assert len(calls) == 2
    for one in (client, again):
        close(one)


def test_another_tools_earlier_patch_that_is_taken_off_first_stays_off(datafile, instrumentor, close, monkeypatch):
    instrumentor.uninstrument()
    bare = Optimizely.__init__
    monkeypatch.setattr(Optimizely, "__init__", functools.partialmethod(bare))
    instrumentor.instrument(skip_dep_check=True)
    monkeypatch.undo()
    instrumentor.uninstrument()
    assert Optimizely.__init__ is bare
    close(Optimizely(datafile, event_dispatcher=Nowhere()))
