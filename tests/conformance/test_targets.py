"""
Every target's adapter delivers a plain payload to a sink on loopback.
"""

from __future__ import annotations

import gzip
import importlib
import importlib.metadata
import json
import sys

from pathlib import Path
from types import SimpleNamespace

import pytest

from wirewitness.conformance import Received
from wirewitness.conformance.agreement import Agreement
from wirewitness.conformance.load import load
from wirewitness.conformance.observation import Observation, Report, failed, not_applicable
from wirewitness.conformance.payloads import plain
from wirewitness.conformance.runner import CheckFinding
from wirewitness.conformance.suite import find


ROOT = str(Path(__file__).parents[2])
ALWAYS = {"optimizely", "outbox-http", "outbox-sqlite", "outbox-optimizely", "requests-data", "requests-json", "urllib"}

pytestmark = [
    pytest.mark.targets,
    pytest.mark.filterwarnings("default"),  # the SDKs' own warnings are theirs
]


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


def received(body, *headers, complete=True):
    return Received("POST", "/v1/events", headers, body, 0, complete=complete, status=204)


def envelope():
    return importlib.import_module("conformance.targets.envelope")


def test_a_batch_is_cut_into_its_payloads_with_their_very_bytes():
    body = b'[{"wirewitness_params": {"a": 1.10}, "b": 2},{"wirewitness_params":[1,"}"]}]'
    assert [each.body for each in envelope().cut_out(received(body))] == [b'{"a": 1.10}', b'[1,"}"]']


def test_a_compressed_envelope_is_cut_out_and_a_cut_one_left_as_it_is():
    body = gzip.compress(b'{"wirewitness_params": {"a": 1}}')
    coding = ("content-encoding", "gzip")
    (whole,) = envelope().cut_out(received(body, coding))
    assert whole.body == b'{"a": 1}'
    (cut,) = envelope().cut_out(received(body[:-12], coding, complete=False))
    assert (cut.body, cut.complete) == (body[:-12], False)


def test_half_a_pair_in_a_text_within_a_text_is_escaped():
    body = json.dumps({"text": json.dumps({"wirewitness_params": "\ud800"}, ensure_ascii=False)}).encode("ascii")
    (payload,) = envelope().cut_out(received(body), lambda content: [json.loads(content)["text"]])
    assert payload.body == b'"\\ud800"'


def test_a_finding_about_the_caller_is_judged_by_the_value_and_one_about_bytes_is_not():
    judged_anew = importlib.import_module("conformance.targets.__main__").judged_anew
    compact = json.dumps(plain(), separators=(",", ":")).encode("ascii")
    marks = {}
    for name in ("payload/plain", "status/200"):
        seen = Observation(
            (json.dumps(plain()).encode("ascii"),),
            (received(compact),),
            Report(calls=({"raised": None, "returned": "", "seconds": 0},)),
        )
        finding = CheckFinding(find(name), not_applicable(""), seen, Agreement(None))
        marks[name] = judged_anew(finding, TARGETS["httpx"]).result.mark.value
    assert marks == {"payload/plain": "warn", "status/200": "pass"}


def test_what_an_sdk_has_no_place_for_is_not_applicable():
    judged_anew = importlib.import_module("conformance.targets.__main__").judged_anew
    finding = CheckFinding(find("headers/own_field"), failed(""), Observation(()), Agreement(None))
    assert judged_anew(finding, TARGETS["posthog"]).result.mark.value == "n/a"
