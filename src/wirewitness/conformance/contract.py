"""
The conformance kit as a pytest suite to be subclassed.
"""

from __future__ import annotations

import functools
import json

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from wirewitness.conformance.observation import EMPTY, Mark, Report, Scenario, usual
from wirewitness.conformance.runner import Aim, play, probe
from wirewitness.conformance.suite import PLAIN, SCENARIOS


try:
    import pytest
except ImportError as _missing:  # pragma: no cover -- the test environment has it
    msg = "wirewitness.conformance.DispatcherContract needs pytest: pip install pytest"
    raise ImportError(msg) from _missing


class DispatcherContract:
    """
    Subclass it in a test module, name the dispatcher, and every scenario is a test::

        class TestMyDispatcher(DispatcherContract):
            target = "my.module:MyDispatcher"

    Attributes:
        target: ``module:attribute``: a class, an instance, a factory or a function, importable in another process.
        shape: What it's called with: ``auto``, ``event`` or ``three``.
        kwargs: What a class or a factory is called with.
        timeout: Seconds for a scenario.
        strict: Whether a warning fails, too.
        known: Names of scenarios that are known to fail: they are expected to, and an unexpected success is told.
    """

    target: ClassVar[str]
    shape: ClassVar[str] = "auto"
    kwargs: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    timeout: ClassVar[float] = 30.0
    strict: ClassVar[bool] = False
    known: ClassVar[Collection[str]] = ()

    @pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
    def test_scenario(self, scenario: Scenario) -> None:
        """
        One scenario.
        """
        finding = play(self._aim(), scenario, _success(self.target, self.shape, json.dumps(dict(self.kwargs))))
        if finding.agreement.agrees is False:
            pytest.fail(f"the witness and the sink disagree: {finding.agreement.why}", pytrace=False)
        mark, reason = finding.result.mark, finding.result.reason
        if mark is Mark.NOT_APPLICABLE:
            pytest.skip(reason)
        bad = mark is Mark.FAIL or (self.strict and mark is Mark.WARN)
        if scenario.name in self.known:
            self._expect(bad=bad, reason=reason)
        elif bad:
            pytest.fail(reason, pytrace=False)

    def _aim(self) -> Aim:
        return Aim(self.target, self.shape, self.kwargs, self.timeout)

    @staticmethod
    def _expect(*, bad: bool, reason: str) -> None:
        if not bad:
            pytest.fail(f"known to fail, and it does not: {reason}", pytrace=False)
        pytest.xfail(reason)


@functools.cache
def _success(target: str, shape: str, kwargs: str) -> Report:
    aim = Aim(target, shape, json.loads(kwargs))
    probe(aim)
    return usual(play(aim, PLAIN, EMPTY).seen.report, play(aim, PLAIN, EMPTY).seen.report)
