"""
Scenarios, played against real dispatchers and against those that hurt.
"""

from __future__ import annotations

import textwrap

import pytest

from wirewitness.conformance.load import BadTarget, load
from wirewitness.conformance.runner import Aim, check, probe, worst
from wirewitness.conformance.suite import choose


pytestmark = pytest.mark.processes


OURS = "wirewitness.conformance.targets"

HARMFUL = """
    import os, signal, sys, time

    def hangs(event):
        while True:
            time.sleep(0.1)

    def leaves(event):
        sys.exit(7)

    def vanishes(event):
        os._exit(0)

    def crashes(event):
        os.kill(os.getpid(), signal.SIGSEGV)

    def prints(event):
        print("noise")

    def two(one, another):
        pass

    class Needs:
        def __init__(self, url):
            self.url = url

        def dispatch_event(self, event):
            pass

    number = 7

    def broken():
        raise KeyError("no configuration")

    async def awaited(event):
        import requests, json
        requests.post(event.url, data=json.dumps(event.params), headers=event.headers)
"""


@pytest.fixture
def harmful(tmp_path, monkeypatch):
    (tmp_path / "harmful.py").write_text(textwrap.dedent(HARMFUL))
    monkeypatch.chdir(tmp_path)
    return lambda name, *only, **options: check(
        Aim(f"harmful:{name}", **{"settle": 0.2, **options}), choose(only or ("payload/plain",))
    )


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("hangs", {"timeout": 2.0}, "hangs: not over after 2 s"),
        ("leaves", {}, "exited with code 7"),
        ("vanishes", {}, "exited with code 0, without a word"),
        ("crashes", {}, "ended by SIGSEGV"),
        ("prints", {}, "nothing was sent, nobody told"),
    ],
)
def test_a_dispatcher_that_hurts_fails_its_scenario_and_no_other(harmful, name, options, words):
    findings = harmful(name, "payload/plain", "payload/empty", **options)
    assert [finding.result.mark.value for finding in findings] == ["fail", "fail"]
    assert words in findings[0].result.reason
    assert worst(findings) == 1


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nowhere:x", "nowhere can't be imported"),
        ("harmful:nothing", "harmful has no nothing"),
        ("harmful", "is no module:attribute"),
        ("harmful:two", "has no known shape"),
        ("harmful:Needs", "could not be made: TypeError"),
        ("harmful:number", "is no dispatcher"),
        ("harmful:broken", "could not be made: KeyError"),
    ],
)
def test_what_is_no_dispatcher_is_told_before_anything_is_played(harmful, spec, words):
    with pytest.raises(BadTarget, match=words):
        probe(Aim(spec))


def test_a_class_gets_its_arguments(harmful):
    (finding,) = harmful("Needs", kwargs={"url": "http://127.0.0.1/"})
    assert "nothing was sent" in finding.result.reason


def test_a_coroutine_is_awaited(harmful):
    (finding,) = harmful("awaited")
    assert (finding.result.mark.value, finding.agreement.agrees) == ("pass", True)


def test_a_shape_can_be_forced():
    assert load(f"{OURS}:three_arguments", "three").three
    assert not load(f"{OURS}:plain_requests").three
    assert load(f"{OURS}:outbox").witnessed


def test_the_classic_shape_has_no_place_for_header_fields():
    findings = check(Aim(f"{OURS}:three_arguments"), choose(("headers/own_field", "shape/keyword", "status/503")))
    marks = {finding.scenario.name: finding.result.mark.value for finding in findings}
    assert marks == {"headers/own_field": "n/a", "shape/keyword": "pass", "status/503": "pass"}
    assert all(finding.agreement.agrees for finding in findings)
