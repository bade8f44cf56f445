"""
Every target's adapter delivers a plain payload to a sink on loopback.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys

from pathlib import Path
from types import SimpleNamespace

import pytest

from wirewitness.conformance.load import load
from wirewitness.conformance.payloads import plain


ROOT = str(Path(__file__).parents[2])
ALWAYS = {"optimizely", "outbox-http", "outbox-sqlite", "outbox-optimizely", "requests-data", "requests-json", "urllib"}

pytestmark = pytest.mark.filterwarnings("default")  # the SDKs' own warnings are theirs


@pytest.fixture(scope="module", autouse=True)
def at_the_root():
    sys.path.insert(0, ROOT)
    yield
    sys.path.remove(ROOT)


def targets():
    sys.path.insert(0, ROOT)
    try:
        return importlib.import_module("conformance.targets").TARGETS
    finally:
        sys.path.remove(ROOT)


TARGETS = targets()


def target_of(name):
    entry = TARGETS[name]
    for package in entry.packages:
        if package == "python" or name in ALWAYS:
            continue
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed: pip install --group targets")
    return load(entry.spec)


def dispatched(name, sink):
    target = target_of(name)
    event = SimpleNamespace(
        url=sink.url + "/v1/events",
        params=plain(),
        http_verb="POST",
        headers={"Content-Type": "application/json"},
    )
    target.send(event)
    for ending in ("flush", "close"):
        if not isinstance(target.raw, type) and hasattr(target.raw, ending):
            getattr(target.raw, ending)()
    assert sink.wait_for(1, 10)
    return sink.requests


@pytest.mark.parametrize("name", [name for name, entry in TARGETS.items() if not entry.embeds])
def test_a_plain_payload_arrives_alone(name, sink):
    (request,) = dispatched(name, sink)
    assert (request.method, request.target) == ("POST", "/v1/events")
    assert json.loads(request.body) == plain()


@pytest.mark.parametrize("name", [name for name, entry in TARGETS.items() if entry.embeds])
def test_a_plain_payload_is_cut_out_of_the_envelope(name, sink):
    (request,) = dispatched(name, sink)
    assert (request.method, request.target) == ("POST", "/v1/events")
    (payload,) = importlib.import_module(TARGETS[name].module).carried(request)
    assert json.loads(payload.body) == plain()
    assert payload.body != request.body
    assert payload.header("authorization") is None
