"""
The judges of header fields, of what the caller sees, and of odd shapes.
"""

from __future__ import annotations

import re

from urllib.parse import parse_qsl, urlencode, urlsplit

from wirewitness.conformance.judges import LONG, intact, nothing_arrived
from wirewitness.conformance.observation import Observation, Result, Scenario, failed, not_applicable, passed, warned
from wirewitness.errors import shown


def _value(value: str) -> str:
    # A media type tells what was done; any other value can be a key.
    return (
        value
        if re.fullmatch(r"(application|text|multipart)/[a-z.+-]{1,40}(; ?charset=[\w-]{1,20})?", value)
        else shown(value)
    )


def header_kept(scenario: Scenario, seen: Observation) -> Result:
    """
    The fields that the caller asked for arrive as asked.
    """
    if not seen.complete:
        return nothing_arrived(seen)
    if seen.report.three and len(scenario.headers) > 1:
        return not_applicable("(http_verb, url, params) has no place for header fields")
    for name, wanted in scenario.headers.items():
        got = [value for known, value in seen.complete[0].headers if known == name.lower()]
        if got != [wanted]:
            return failed(f"{name}: {wanted} was asked for, {', '.join(map(_value, got)) or 'nothing'} arrived")
    return passed(f"{', '.join(scenario.headers)} as asked")


def no_content_coding(_: Scenario, seen: Observation) -> Result:
    """
    No content coding is added, and the length is the content's.
    """
    if not seen.complete:
        return nothing_arrived(seen)
    request = seen.complete[0]
    coding, length = request.header("content-encoding"), request.header("content-length")
    if coding not in {None, "identity"}:
        return warned(f"Content-Encoding: {coding} was added")
    framing = f"Content-Length: {length}" if length else "chunked"
    return passed(f"no coding, {framing}")


def no_baggage(_: Scenario, seen: Observation) -> Result:
    """
    Nothing of a trace's context, and no credential, leaks to a third party.
    """
    if not seen.complete:
        return nothing_arrived(seen)
    names = {"baggage", "traceparent", "tracestate", "cookie", "authorization"}
    leaked = sorted(names & {name for name, _ in seen.complete[0].headers})
    return failed(f"{', '.join(leaked)} added") if leaked else passed("nothing leaks")


def prompt(scenario: Scenario, seen: Observation) -> Result:
    """
    The caller gets control back soon.
    """
    result = intact(scenario, seen)
    seconds = seen.report.blocked
    if result.mark == "pass" and seconds > LONG:
        return warned(f"the caller was blocked for {seconds:.1f} s")
    return passed(f"the caller was blocked for {seconds:.2f} s") if result.mark == "pass" else result


def unmutated(scenario: Scenario, seen: Observation) -> Result:
    """
    The caller's own payload isn't changed in place.
    """
    if seen.report.mutated:
        return failed("the caller's event was changed in place")
    result = intact(scenario, seen)
    return result if result.mark == "fail" else passed("the caller's event is as it was")


def frozen(_: Scenario, seen: Observation) -> Result:
    """
    What the caller changes after the call isn't sent.
    """
    bodies = [request.body for request in seen.complete]
    if not bodies:
        return nothing_arrived(seen)
    if any(b"changed by the caller" in body for body in bodies):
        return failed("what the caller changed after the call went out: it's serialised later")
    return passed("sent as it was at the call")


def quiet(scenario: Scenario, seen: Observation) -> Result:
    """
    A success is no exception; what is returned is told.
    """
    if seen.report.raised:
        return failed(f"raised {seen.report.raised} after a success")
    result = intact(scenario, seen)
    return result if result.mark == "fail" else passed(f"returns {seen.report.returned or 'nothing'}")


def odd_verb(scenario: Scenario, seen: Observation) -> Result:
    """
    An unknown verb: sent as asked, or refused so that the caller knows.
    """
    if not seen.requests:
        return passed(f"refused: {seen.telling}") if seen.telling else failed(f"nothing was sent, {seen.silence}")
    verb = seen.requests[0].method
    if verb != scenario.verb:
        return warned(f"{scenario.verb} was asked for, {verb} was sent")
    return passed(f"sent as {verb}")


def without_params(_: Scenario, seen: Observation) -> Result:
    """
    No parameters: an empty content or null, or refused so that the caller knows.
    """
    if not seen.complete:
        return passed(f"refused: {seen.telling}") if seen.telling else failed(f"nothing was sent, {seen.silence}")
    body = seen.complete[0].body
    return passed(f"sent {len(body)} bytes") if body in {b"", b"null"} else failed(f"sent {len(body)} bytes for None")


def as_query(scenario: Scenario, seen: Observation) -> Result:
    """
    A GET carries its parameters in the query, next to the URL's own.
    """
    if not seen.complete:
        return nothing_arrived(seen)
    request = seen.complete[0]
    if request.method != "GET":
        return failed(f"GET was asked for, {request.method} was sent")
    own = urlsplit(scenario.path).query
    wanted = "&".join(part for part in (own, urlencode(scenario.params())) if part)
    got = urlsplit(request.target).query
    if got == wanted:
        return passed("the query is as meant")
    if parse_qsl(got) == parse_qsl(wanted):
        return warned("the query has the same pairs in another encoding")
    where = "they are in the content" if request.body else "they are nowhere"
    return failed(f"the query lacks parameters: {where}")
