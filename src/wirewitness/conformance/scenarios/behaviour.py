"""
What else the caller and the receiver can ask for: header fields, manners, threads, ends.
"""

from __future__ import annotations

from typing import Final

from wirewitness.conformance import judges, judges_headers
from wirewitness.conformance.observation import Scenario
from wirewitness.conformance.payloads import plain


_JSON: Final = {"Content-Type": "application/json"}

HEADERS: Final = (
    Scenario(
        "headers/content_type",
        "Content-Type as asked",
        "The receiver reads the content by it. Dispatchers that are called without header fields add their own.",
        judges_headers.header_kept,
        params=plain,
    ),
    Scenario(
        "headers/own_field",
        "a field of the caller's",
        "Whatever the event asks for arrives once, with its value.",
        judges_headers.header_kept,
        params=plain,
        headers={**_JSON, "X-Event-Source": "shop; v=1"},
    ),
    Scenario(
        "headers/no_coding",
        "no content coding is added",
        "A receiver that doesn't undo gzip reads garbage; and two attempts differ in bytes by gzip's time stamp.",
        judges_headers.no_content_coding,
        params=plain,
    ),
    Scenario(
        "headers/no_leak",
        "no baggage, cookie or credential is added",
        "Tracing instrumentation puts traceparent and baggage into requests to anybody; requests adds what a .netrc says.",
        judges_headers.no_baggage,
        params=plain,
    ),
)

CALLER: Final = (
    Scenario(
        "caller/blocked",
        "how long the call takes",
        "In a plain case, not a second.",
        judges_headers.prompt,
        params=plain,
    ),
    Scenario(
        "caller/return_value",
        "a success raises nothing",
        "What comes back is what all failures are compared with.",
        judges_headers.quiet,
        params=plain,
    ),
    Scenario(
        "caller/not_mutated",
        "the event isn't changed in place",
        "The caller may use it again: for another dispatcher, or for a retry of its own.",
        judges_headers.unmutated,
        params=plain,
    ),
    Scenario(
        "caller/changed_after",
        "the caller changes the event after the call",
        "Whoever serialises later, in another thread, sends something else than was handed over.",
        judges_headers.frozen,
        params=plain,
        act="change_after",
    ),
    Scenario(
        "caller/unserializable",
        "a value that JSON doesn't know",
        "It can't be sent: an exception, or a count of what was dropped, tells the caller. Silence doesn't.",
        judges.nothing_sent,
        params=lambda: {"value": object()},
        expects=0,
    ),
)

SHAPE: Final = (
    Scenario(
        "shape/unknown_verb",
        "an HTTP method that nobody knows",
        "It's sent as asked, or refused so that the caller knows.",
        judges_headers.odd_verb,
        params=plain,
        verb="BREW",
    ),
    Scenario(
        "shape/params_none",
        "no parameters",
        "Empty content or null is sent, or it's refused so that the caller knows.",
        judges_headers.without_params,
        params=lambda: None,
    ),
    Scenario(
        "shape/get_query",
        "GET, with the parameters in the query",
        "They come behind the URL's own: content in a GET has no meaning (RFC 9110 section 9.3.1).",
        judges_headers.as_query,
        "/v1/events?own=1",
        lambda: {"a": "1", "b": "x y"},
        verb="GET",
    ),
    Scenario(
        "shape/keyword",
        "called with its arguments by name",
        "The contract names them: callers may use the names.",
        judges.intact,
        params=plain,
        act="keyword",
    ),
)

CONCURRENCY: Final = (
    Scenario(
        "concurrency/threads",
        "eight threads at once",
        "Every event arrives once, each with its own bytes.",
        judges.arrives,
        params=plain,
        act="threads",
        events=8,
        expects=8,
    ),
    Scenario(
        "concurrency/fork",
        "one event before a fork, one in the child",
        "Pre-forking servers do so. A worker thread doesn't survive a fork, and a shared connection mixes two processes.",
        judges.arrives,
        params=plain,
        act="fork",
        events=2,
        expects=2,
    ),
    Scenario(
        "concurrency/reentrance",
        "a signal handler dispatches while the thread dispatches",
        "The same happens inside a garbage collection. A lock that can't be entered twice hangs the program.",
        judges.arrives,
        "/slow/400",
        plain,
        act="signal",
        events=2,
        expects=2,
    ),
)

SHUTDOWN: Final = (
    Scenario(
        "shutdown/exit",
        "the program ends behind the call",
        "Nobody calls flush() or close(). What is queued must go out before the interpreter is gone.",
        judges.arrives,
        "/slow/200",
        plain,
        act="exit",
        events=3,
        expects=3,
    ),
    Scenario(
        "shutdown/sigterm",
        "SIGTERM behind the call",
        "How every container ends. The program handles it as servers do, by leaving in good order.",
        judges.arrives,
        "/slow/200",
        plain,
        act="terminate",
        events=3,
        expects=3,
    ),
)

SCENARIOS: Final = (*HEADERS, *CALLER, *SHAPE, *CONCURRENCY, *SHUTDOWN)
