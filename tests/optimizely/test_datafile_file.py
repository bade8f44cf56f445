"""
The cache file: what one process has fetched is there for the next, and nobody else's is trusted.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import time

import pytest

from wirewitness.errors import ConfigurationError
from wirewitness.optimizely import DatafileSource, Fetched
from wirewitness.optimizely.datafile_fetch import FetchAnswer
from wirewitness.optimizely.datafile_file import Stored
from wirewitness.optimizely.datafile_supply import SupplyOptions


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "datafile.json"


@pytest.fixture
def written(path, manage, fetches):
    """
    A cache file, and the manager that wrote it, which has stopped.
    """
    manager = manage(cache_path=path)
    assert fetches.wait_for(1)
    manager.stop()
    fetches.clear()
    return path


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_cold_start_needs_no_network(written, cdn, manage):
    cdn.close()
    manager = manage(cache_path=written)
    assert (manager.get_config().revision, manager.source) == ("7", DatafileSource.FILE)


def test_a_fresh_file_is_not_fetched_again(written, cdn, manage):
    asked = len(cdn.requests)
    manager = manage(cache_path=written)
    assert manager.get_config().revision == "7"
    manager.stop()
    assert len(cdn.requests) == asked


def test_an_expired_file_is_served_while_the_server_hangs(written, cdn, manage):
    rewrite(written, saved=time.time() - 10_000)
    cdn.answer = cdn.hang
    manager = manage(cache_path=written, wait=False)
    assert (manager.get_config().revision, manager.source) == ("7", DatafileSource.FILE)
    assert manager.gauges().age >= 10_000


def test_an_expired_file_goes_before_the_fallback(written, cdn, manage, project):
    rewrite(written, saved=time.time() - 10_000)
    cdn.answer = cdn.status(500)
    manager = manage(cache_path=written, fallback=json.dumps(project | {"revision": "1"}))
    assert (manager.get_config().revision, manager.source) == ("7", DatafileSource.FILE)


def test_a_file_s_datafile_is_asked_for_by_its_tag_and_its_time_renewed(written, cdn, manage, fetches):
    rewrite(written, saved=time.time() - 10_000)
    manage(cache_path=written)
    assert fetches.wait_for(1)
    assert (fetches[0].outcome, fetches[0].status, fetches[0].source) == (Fetched.UNCHANGED, 304, DatafileSource.CDN)
    assert json.loads(written.read_text())["saved"] > time.time() - 5_000


def test_what_another_process_has_fetched_meanwhile_is_taken_from_the_file(path, cdn, manage, project, fetches):
    one = manage(cache_path=path)
    assert fetches.wait_for(1)
    cdn.publish(project | {"revision": "8"})
    other = manage(cache_path=path)
    fetches.next(other)
    asked = len(cdn.requests)

    one._renew(asked=False)

    assert (one.get_config().revision, one.source) == ("8", DatafileSource.FILE)
    assert len(cdn.requests) == asked


def test_the_file_is_its_user_s_own_and_replaced_in_one_step(written, cdn, manage, fetches, project):
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert stat.S_IMODE(written.parent.stat().st_mode) == 0o700
    before = written.stat().st_ino
    cdn.publish(project | {"revision": "8"})
    with written.open() as held:
        fetches.next(manage(cache_path=written))
        assert json.loads(json.load(held)["datafile"])["revision"] == "7"
    assert written.stat().st_ino != before
    assert list(written.parent.iterdir()) == [written]


UNTRUSTED = {
    "truncated": lambda path: path.write_text(path.read_text()[:200]),
    "changed": lambda path: rewrite(
        path, datafile=json.loads(path.read_text())["datafile"].replace("one_page", "no_page")
    ),
    "not json": lambda path: path.write_text("<html>"),
    "a list": lambda path: path.write_text("[]"),
    "of half the fields": lambda path: path.write_text('{"format": 1}'),
    "writable by others": lambda path: path.chmod(0o622),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a FIFO": lambda path: (path.unlink(), os.mkfifo(path)),
    "a socket": lambda path: (path.unlink(), bind(path)),
    "a device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "a link": lambda path: (path.rename(path.with_suffix(".other")), path.symlink_to(path.with_suffix(".other"))),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path)),
    "larger than a datafile can be": lambda path: os.truncate(path, 1 << 40),
    "nested deeply": lambda path: path.write_text("[" * 100_000),
    "of a time that is none": lambda path: rewrite(path, saved=float("nan")),
    "of a time past all floats": lambda path: rewrite(path, saved=10**400),
    "of a tag that is none": lambda path: rewrite(path, etag=7),
    "of a tag that is two fields": lambda path: rewrite(path, etag="a\r\nX: b"),
}


def bind(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


@pytest.mark.parametrize("how", UNTRUSTED)
def test_a_file_that_cannot_be_trusted_is_not_used_and_counted(how, written, cdn, manage, faults):
    UNTRUSTED[how](written)
    cdn.answer = cdn.status(500)
    manager = manage(cache_path=written)
    assert manager.get_config() is None
    assert faults("file_read") >= 1


@pytest.mark.parametrize("how", ["a folder", "a FIFO", "a socket"])
def test_what_is_no_file_is_not_replaced(how, written, manage, fetches, faults):
    UNTRUSTED[how](written)
    before = written.stat()
    manager = manage(cache_path=written)
    assert manager.get_config().revision == "7"
    fetches.next(manager)
    assert faults("file_write") >= 1
    assert (written.stat().st_ino, written.stat().st_mode) == (before.st_ino, before.st_mode)


def test_a_fifo_for_a_fallback_is_told_at_once(tmp_path, manage):
    os.mkfifo(tmp_path / "fallback.json")
    with pytest.raises(ConfigurationError, match="no regular file"):
        manage(fallback=tmp_path / "fallback.json")


@pytest.mark.parametrize("datafile", ['[{"sdkKey": "CANARY"}]', "\0{CANARY}", '"CANARY' + "x" * 5000])
def test_an_error_text_holds_nothing_of_a_datafile_or_a_key(datafile, manage):
    with pytest.raises(ConfigurationError) as raised:
        manage(fallback=datafile)
    assert "CANARY" not in str(raised.value)


def test_reprs_hold_nothing_of_a_datafile_or_a_key():
    options = SupplyOptions("http://CANARY/", "CANARY", 1.0, 1.0, 0.1, 1, "CANARY", None, None)
    shown = [options, Stored("CANARY", 0.0, None, None), FetchAnswer(200, b"CANARY", None, None)]
    assert "CANARY" not in repr(shown)


def test_a_file_of_a_datafile_that_is_not_taken_any_more_is_not_used(written, cdn, manage, faults):
    cdn.answer = cdn.status(500)
    manager = manage(cache_path=written, project_id="another")
    assert manager.get_config() is None
    assert faults("file_read") >= 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_used(written, cdn, manage):
    os.chown(written, 12345, 12345)
    cdn.answer = cdn.status(500)
    assert manage(cache_path=written).get_config() is None


@pytest.mark.parametrize("change", [{"of": "another URL"}, {"format": 2}])
def test_a_file_of_another_url_or_of_another_format_is_silently_overwritten(change, written, manage, faults):
    rewrite(written, **change)
    manager = manage(cache_path=written)
    assert manager.get_config().revision == "7"
    assert manager.source is DatafileSource.CDN
    assert json.loads(written.read_text())["format"] == 1
    assert faults("file_read") == 0


def test_a_file_from_the_future_is_used_and_renewed(written, cdn, manage, fetches):
    rewrite(written, saved=time.time() + 10_000)
    manager = manage(cache_path=written)
    assert manager.get_config().revision == "7"
    assert fetches.wait_for(1)


def test_a_file_that_cannot_be_written_is_counted_and_stops_nothing(manage, tmp_path, faults):
    (tmp_path / "taken").write_text("a file where a folder should be")
    manager = manage(cache_path=tmp_path / "taken" / "datafile.json")
    assert manager.get_config().revision == "7"
    manager.stop()
    assert faults("file_write") == 1


def test_a_file_half_written_leaves_nothing_behind(written, monkeypatch, manage, fetches):
    def full(*_):
        raise OSError(28, "No space left on device")

    before = written.read_text()
    monkeypatch.setattr("wirewitness.optimizely.datafile_file.json.dump", full)
    manager = manage(cache_path=written)
    assert fetches.next(manager).outcome is Fetched.UNCHANGED
    assert written.read_text() == before
    assert list(written.parent.iterdir()) == [written]
