"""
Findings for machines: JSON, and JUnit's XML.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

from wirewitness.conformance.observation import Mark
from wirewitness.conformance.runner import CheckFinding
from wirewitness.core.exchange import redact_target


def on_the_wire(finding: CheckFinding) -> str:
    """
    What the sink saw, in a few words.
    """
    requests = finding.seen.requests
    if not requests:
        return "nothing"
    first = [
        f"{request.method} {request.status or 'no answer'}" + ("" if request.complete else " (cut)")
        for request in requests
    ]
    counted = Counter(first)
    return ", ".join(f"{number} x {text}" if number > 1 else text for text, number in counted.items())


def at_the_caller(finding: CheckFinding) -> str:
    """
    What the caller saw, in a few words.
    """
    report = finding.seen.report
    if not report.calls:
        return "no call came back"
    seen = f"raised {report.raised}" if report.raised else f"returned {report.returned}"
    return f"{seen} in {report.blocked:.2f} s" + (f", {report.logged} logged" if report.logged else "")


def as_json(target: str, findings: Sequence[CheckFinding]) -> dict[str, Any]:
    """
    The whole result.
    """
    return {
        "target": target,
        "summary": summary(findings),
        "scenarios": [_scenario(finding) for finding in findings],
    }


def summary(findings: Sequence[CheckFinding]) -> dict[str, int]:
    """
    How many scenarios ended how.
    """
    marks = Counter(finding.result.mark for finding in findings)
    return {mark.value: marks[mark] for mark in Mark}


def _scenario(finding: CheckFinding) -> dict[str, Any]:
    report = finding.seen.report
    return {
        "name": finding.scenario.name,
        "group": finding.scenario.group,
        "verdict": finding.result.mark.value,
        "reason": finding.result.reason,
        "wire": {"summary": on_the_wire(finding), "requests": [_request(each) for each in finding.seen.requests]},
        "caller": {
            "summary": at_the_caller(finding),
            "calls": [{name: said for name, said in call.items() if name != "digest"} for call in report.calls],
            "told": dict(report.told),
            "logged": report.logged,
            "mutated": report.mutated,
        },
        "witness": [dict(dispatch) for dispatch in report.dispatches],
        "agrees": finding.agreement.agrees,
        "disagreement": finding.agreement.why,
        "seconds": round(finding.seconds, 3),
    }


def _request(request: Any) -> dict[str, Any]:
    return {
        "method": request.method,
        "target": redact_target(request.target),
        "status": request.status,
        "bytes": len(request.body),
        "sha256": request.digest.hex(),
        "complete": request.complete,
        "connection": request.connection,
    }


def as_junit(target: str, findings: Sequence[CheckFinding]) -> str:
    """
    The result as JUnit's XML, which build servers read: a warning is a passed case that says so.
    """
    counts = summary(findings)
    suite = ET.Element(
        "testsuite",
        name=f"wirewitness check {target}",
        tests=str(len(findings)),
        failures=str(counts["fail"]),
        skipped=str(counts["n/a"]),
        errors=str(sum(finding.agreement.agrees is False for finding in findings)),
        time=f"{sum(finding.seconds for finding in findings):.3f}",
    )
    for finding in findings:
        _case(suite, finding)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, finding: CheckFinding) -> None:
    scenario, result = finding.scenario, finding.result
    case = ET.SubElement(suite, "testcase", classname=scenario.group, name=scenario.name, time=f"{finding.seconds:.3f}")
    kinds = {Mark.FAIL: "failure", Mark.NOT_APPLICABLE: "skipped"}
    if result.mark in kinds:
        ET.SubElement(case, kinds[result.mark], message=result.reason)
    if finding.agreement.agrees is False:
        ET.SubElement(case, "error", message=f"witness and sink disagree: {finding.agreement.why}")
    ET.SubElement(case, "system-out").text = f"{result.mark.value}: {result.reason}"
