"""
The kit as a pytest suite: a subclass of the contract is a test a scenario.
"""

from __future__ import annotations

import pytest

import wirewitness.conformance

from wirewitness.conformance.suite import SCENARIOS


pytestmark = pytest.mark.processes


pytest_plugins = ["pytester"]

MODULE = """
from wirewitness.conformance import DispatcherContract


class TestRequests(DispatcherContract):
    target = "wirewitness.conformance.targets:swallowing_requests"
    known = ("status/302",)
"""


def run(pytester, *names, module=MODULE):
    path = pytester.makepyfile(test_mine=module)
    chosen = [f"{path.name}::TestRequests::test_scenario[{name}]" for name in names]
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rA", *chosen)


def test_a_subclass_tests_every_scenario(pytester):
    path = pytester.makepyfile(test_mine=MODULE)
    listed = pytester.runpytest_subprocess("--collect-only", "-q", path)
    assert sum("::test_scenario[" in line for line in listed.outlines) == len(SCENARIOS)


def test_a_failure_a_known_one_and_what_does_not_apply_are_told_apart(pytester):
    result = run(pytester, "payload/plain", "status/503", "status/302", "payload/bytes", "status/404")
    result.assert_outcomes(passed=2, failed=1, xfailed=1, skipped=1)
    result.stdout.fnmatch_lines(["*answered 503, sent once, nobody told*"])


def test_a_warning_fails_where_it_is_strict(pytester):
    result = run(pytester, "status/404", module=f"{MODULE}\n    strict = True\n")
    result.assert_outcomes(failed=1)


def test_a_known_failure_that_is_none_is_told(pytester):
    result = run(pytester, "payload/plain", module=MODULE.replace("status/302", "payload/plain"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*known to fail, and it does not*"])


def test_the_room_has_nothing_else():
    with pytest.raises(AttributeError, match="Contract"):
        wirewitness.conformance.Contract  # noqa: B018
