"""
Every scenario against real dispatchers: the tap and the sink check each other.

It takes minutes, and so has an environment of its own in tox.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from wirewitness.conformance.runner import Aim, check
from wirewitness.conformance.suite import SCENARIOS


SDK = "optimizely.event_dispatcher:EventDispatcher"
OURS = "wirewitness.conformance.targets"

pytestmark = pytest.mark.slow("68 processes for each of nine targets")


@pytest.fixture(scope="module", autouse=True)
def _with_this_folder_on_the_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        yield


def marks(findings):
    return {finding.scenario.name: finding.result.mark.value for finding in findings}


@pytest.fixture(scope="module")
def played():
    cache = {}

    def play(target):
        if target not in cache:
            cache[target] = check(Aim(target), SCENARIOS)
        return cache[target]

    return play


# A minute and a half each on two busy cores: 68 processes.
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "target",
    [
        SDK,
        f"{OURS}:plain_requests",
        f"{OURS}:plain_urllib",
        f"{OURS}:plain_urllib3",
        f"{OURS}:outbox",
        "httpx_targets:Httpx",
        "httpx_targets:HttpxAsyncio",
        "httpx_targets:Httpx2",
        "httpx_targets:Httpx2Asyncio",
    ],
)
def test_the_witness_agrees_with_the_sink_in_every_scenario(played, target):
    findings = played(target)
    assert {each.scenario.name: each.agreement.why for each in findings if each.agreement.agrees is False} == {}
    assert all(each.agreement.agrees for each in findings)


@pytest.mark.timeout(600)
def test_the_sdk_s_dispatcher_does_not_retry_a_503_and_loses_the_body_of_a_302(played):
    found = marks(played(SDK))
    assert {found["status/503"], found["status/302"], found["shape/unknown_verb"]} == {"fail"}
    assert {found[name] for name in ("payload/plain", "status/204", "status/307", "caller/not_mutated")} == {"pass"}


@pytest.mark.timeout(600)
def test_the_outbox_passes_all(played):
    found = marks(played(f"{OURS}:outbox"))
    # NaN goes out as asked, and no JSON parser has to take it.
    assert {name: mark for name, mark in found.items() if mark != "pass"} == {"payload/nan": "warn"}
