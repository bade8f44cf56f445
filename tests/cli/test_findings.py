from __future__ import annotations

from dataclasses import replace

import pytest

from wirewitness.cli.demo.findings import agreement, differences, findings
from wirewitness.cli.demo.program import notable, total
from wirewitness.cli.demo.records import Records
from wirewitness.cli.demo.scenarios import SCENARIOS, Act, DemoScenario
from wirewitness.cli.demo.stage import DemoStage
from wirewitness.cli.demo.words import counted, duration, seen_on_the_wire
from wirewitness.ledger import LedgerSnapshot


@pytest.fixture
def play(sink):
    records = Records()
    acting = DemoStage(sink, records.tracer_provider, records.meter_provider)
    yield acting.play
    records.close()


@pytest.fixture
def well(play):
    return play(SCENARIOS[0])


@pytest.fixture
def rejected(play):
    return play(SCENARIOS[1])


def test_nothing_is_found_where_all_is_well(well):
    assert [found for found in findings([well]) if not found.startswith("A slow answer")] == []


def test_a_503_is_found_with_its_attempts_and_log_lines(rejected):
    (found,) = findings([rejected])
    assert found.startswith("On a 503 the SDK's dispatcher returned None, after one attempt and one log line: ")


def test_a_503_that_raised_is_not_called_unknown_to_its_caller(rejected):
    assert findings([replace(rejected, raised="HTTPError")]) == []


def test_a_503_without_a_log_line_has_none_in_its_finding(rejected):
    (found,) = findings([replace(rejected, lines=0)])
    assert "log line" not in found


def test_a_302_that_was_logged_is_not_called_taken_for_success(play):
    redirected = play(SCENARIOS[4])
    (found,) = findings([redirected])
    assert found == ("On a 302 the follow-up GET had no body and got 200: the SDK's dispatcher took that for success.")
    (found,) = findings([replace(redirected, lines=1)])
    assert found.endswith("the event is lost.")


def test_an_endpoint_that_got_the_same_agrees(well, sink):
    assert agreement([well], sink.requests) == [
        "The endpoint, asked afterwards, received one request: byte for byte what the witness saw leave.",
    ]
    assert differences([well], sink.requests, well.book) == []


def test_an_endpoint_that_got_another_body_does_not_agree(well, sink):
    (received,) = sink.requests
    other = replace(received, body=b"{}")
    assert agreement([well], [other]) == []
    assert differences([well], [other], well.book) == [
        "the endpoint received other requests than the witness saw leave",
    ]


def test_an_endpoint_that_got_a_request_unseen_does_not_agree(well, sink):
    assert differences([well], sink.requests * 2, well.book) != []


def test_a_book_that_does_not_close_is_a_difference(well, sink):
    assert differences([well], sink.requests, LedgerSnapshot(accepted=1)) == ["the book does not close"]


def test_books_add_up(well, rejected):
    both = total([well.book, rejected.book])
    assert both.closes
    assert str(both).startswith("accepted 2 = delivered 1 + rejected 1 + failed 0")
    assert both.exchanges == 2


def test_a_good_and_a_bad_dispatch_are_notable_where_there_are_both(well, rejected):
    assert notable([rejected, well]) == [("good", well), ("bad", rejected)]
    assert notable([well]) == [("good", well)]
    assert notable([]) == []


class Persistent:
    def dispatch_event(self, event):
        import requests

        for _ in range(3):
            requests.post(event.url, json=event.params, timeout=5)


def test_attempts_with_the_same_answer_are_told_together(play):
    run = play(DemoScenario("", "persistent", Persistent, "/status/503", Act.TRACK, SCENARIOS[1].expected))
    assert seen_on_the_wire(run) == "POST 503 3 times"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 ms"),
        (0.00042, "0.4 ms"),
        (0.00994, "9.9 ms"),
        (0.00996, "10 ms"),
        (0.1534, "153 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (1.2, "1.20 s"),
    ],
)
def test_a_duration_has_a_unit_that_fits(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "no bytes"), (1, "one byte"), (4, "four bytes"), (10, "ten bytes"), (12, "12 bytes")]
)
def test_a_number_up_to_ten_is_a_word(number, text):
    assert counted(number, "byte") == text
