from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from click.testing import CliRunner

from wirewitness.cli.commands import wirewitness
from wirewitness.core.outcome import Reason
from wirewitness.outbox import Form, Message, SqliteSpool
from wirewitness.outbox.clock import steady, steady_ns


pytestmark = pytest.mark.processes


URL = "https://user:pass@logx.optimizely.com/v1/events?token=secret&n=1#part"
HEADERS = (("Content-Type", "application/json"), ("Authorization", "Bearer secret"), ("X-Api-Key", "secret"))


def message(number, *, age=0.0):
    return Message("POST", URL, HEADERS, b'{"n": %d}' % number, Form.VALUE, steady_ns() - int(age * 1e9))


def fill(path, queued=3, dead=2, *, close=True):
    spool = SqliteSpool(path)
    spool.start()
    for number in range(dead + queued):
        assert spool.put(message(number, age=7200.0)) is None
    for one in spool.claim(dead, steady()):
        one.attempts = 4
        spool.dead_letter(one, Reason.STATUS_4XX.value)
    assert spool.sync(10.0)
    if close:
        spool.close()
    return spool


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    return folder


def file_in(path):
    (file,) = path.glob("*.db")
    return file


def fill_file(folder, name, **what):
    """
    Leave a file of that name.
    """
    made = folder.parent / f"made-{name}"
    fill(made, **what)
    file_in(made).rename(folder / name)


def run(*arguments, code=0):
    result = CliRunner().invoke(wirewitness, ["spool", *map(str, arguments)], env={"COLUMNS": "120"})
    assert result.exit_code == code, result.output
    return result.output


def table(*arguments):
    head, *lines = run(*arguments).splitlines()
    names = re.split(r"  +", head.strip())
    return [dict(zip(names, re.split(r"  +", line.strip()), strict=False)) for line in lines]


def dead_ids(path):
    return [letter["id"] for letter in json.loads(run("show", path, "--dead", "--json"))]


def test_ls_lists_a_file_with_what_is_in_it(path):
    fill(path)
    for given in (path, file_in(path)):
        (row,) = table("ls", given)
        assert row.pop("size").endswith(" kB")
        assert row == {"file": file_in(path).name, "queued": "3", "dead": "2", "oldest": "2.0 h", "state": "free"}


def test_ls_in_json(path):
    fill(path, queued=0, dead=1)
    (entry,) = json.loads(run("ls", path, "--json"))
    size = entry.pop("size")
    assert size == file_in(path).stat().st_size
    assert entry == {"path": str(file_in(path)), "state": "free", "queued": 0, "dead": 1, "oldest_age": None}


def test_ls_lists_the_files_of_all_processes_and_those_that_were_set_aside(path):
    living = fill(path, close=False)
    fill_file(path, "1-00000001.db")
    (path / "1-00000001.db.corrupt-20261124T093000").write_bytes(b"x" * 2500)
    (path / "1-00000001.db.salvaged-20261124T093000-2").write_bytes(b"x")
    (path / "2-00000002.db").write_bytes(b"no database" * 1000)
    (path / "notes.txt").write_text("mine")
    rows = {row["file"]: (row["queued"], row["state"]) for row in table("ls", path)}
    assert rows == {
        "1-00000001.db": ("3", "free"),
        "2-00000002.db": ("-", "damaged"),
        living._store.own.file.path.name: ("-", f"in use by process {os.getpid()}"),
        "1-00000001.db.corrupt-20261124T093000": ("-", "set aside"),
        "1-00000001.db.salvaged-20261124T093000-2": ("-", "salvaged"),
    }
    living.close()


@pytest.mark.parametrize("command", [("show",), ("retry", "--all"), ("purge", "--all", "--yes")])
def test_a_file_that_a_living_process_holds_is_never_opened(path, command):
    living = fill(path, close=False)
    file = living._store.own.file.path
    name, *options = command
    assert run(name, path, *options, code=2) == f"Error: {file} is in use by process {os.getpid()}: stop that first\n"
    assert living.stats().size == 3
    living.close()


def test_what_is_free_is_dealt_with_where_other_files_are_in_use(path):
    living = fill(path, close=False)
    fill_file(path, "1-00000001.db")
    told = run("retry", path, "--all", code=2)
    assert told.startswith("2 put back into the queue\nError: ")
    assert told.endswith(f"{living._store.own.file.path.name} is in use by process {os.getpid()}: stop that first\n")
    assert len(table("show", path / "1-00000001.db")) == 5
    living.close()


def test_salvage_puts_back_what_can_be_read_and_does_so_once(path):
    fill(path)
    whole = file_in(path).read_bytes()
    file_in(path).unlink()
    damaged = path / "1-00000001.db.corrupt-20261124T093000"
    damaged.write_bytes(whole.replace(b'{"n": 4}', b'{"n": 5}'))
    assert run("salvage", path) == f"{damaged.name}: 2 put back into the queue, 2 dead letters, 1 lost\n"
    assert {(row["queued"], row["dead"], row["state"]) for row in table("ls", path)} == {
        ("2", "2", "free"),
        ("-", "-", "salvaged"),
    }
    assert run("salvage", path, code=2) == f"Error: {path} has no damaged file that was set aside\n"


def test_salvage_tells_what_it_can_t_read(path):
    damaged = path / "1-00000001.db.failed-20261124T093000"
    damaged.write_bytes(b"no database" * 1000)
    assert run("salvage", damaged, code=2).startswith(f"Error: {damaged} can't be read: ")
    assert list(path.iterdir()) == [damaged]


@pytest.mark.parametrize("command", [("ls",), ("show",), ("retry", "--all"), ("purge", "--all", "--yes")])
def test_what_is_not_there_is_told_and_not_made(tmp_path, command):
    name, *options = command
    missing = tmp_path / "missing.db"
    assert run(name, missing, *options, code=2) == f"Error: {missing} isn't there\n"
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_spool_is_told_and_left_alone(path):
    other = path / "1-00000001.db"
    other.write_bytes(b"no database" * 1000)
    assert "1-00000001.db is damaged: the next process that finds it will set it aside" in run("show", path, code=2)
    assert other.read_bytes() == b"no database" * 1000


def test_show_lists_what_is_queued_and_no_secret(path):
    fill(path)
    rows = table("show", path)
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert {row["age"] for row in rows} == {"2.0 h"}
    requests = {row["request"] for row in rows}
    assert requests == {"POST https://logx.optimizely.com/v1/events?token=REDACTED&n=REDACTED"}
    assert (rows[0]["size"], rows[0]["attempts"], rows[0]["due in"]) == ("8 B", "0", "-")
    assert len(table("show", path, "--limit", 2)) == 2


def test_show_lists_dead_letters_with_their_reason(path):
    fill(path)
    rows = table("show", path, "--dead")
    assert [(row["attempts"], row["reason"]) for row in rows] == [("4", "status_4xx")] * 2


def test_show_tells_all_of_one_but_the_payload_and_the_secrets(path):
    fill(path)
    number = dead_ids(path)[0]
    for told in (run("show", path, number, "--dead"), run("show", path, number, "--dead", "--json")):
        assert "secret" not in told
        assert "pass" not in told
        assert '"n": 0' not in told
        assert "application/json" in told
        assert "status_4xx" in told
    (letter,) = json.loads(run("show", path, number, "--dead", "--json"))
    assert letter["headers"] == [
        ["Content-Type", "application/json"],
        ["Authorization", "REDACTED"],
        ["X-Api-Key", "REDACTED"],
    ]
    assert letter["digest"].startswith("sha-256=:")
    assert "payload" not in letter


def test_show_tells_what_is_due_later(path):
    spool = SqliteSpool(path)
    spool.start()
    spool.put(message(1))
    (one,) = spool.claim(1, steady())
    one.attempts = 2
    spool.retry_at(one, steady() + 1000.0)
    spool.close()
    (row,) = table("show", path)
    assert (row["attempts"], row["due in"]) == ("2", "16.7 min")
    assert json.loads(run("show", path, "--json"))[0]["due"].startswith("20")


def test_the_payload_is_printed_byte_by_byte_when_it_is_asked_for(path):
    fill(path)
    number = dead_ids(path)[1]
    command = [sys.executable, "-m", "wirewitness", "spool", "show", str(path), str(number), "--dead", "--payload"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b'{"n": 1}'
    (letter,) = json.loads(run("show", path, number, "--dead", "--payload", "--json"))
    assert letter["payload"] == '{"n": 1}'


def test_a_payload_that_is_no_text_comes_in_base64(path):
    spool = SqliteSpool(path)
    spool.start()
    spool.put(Message("POST", "http://h/", (), b"\xff\x00", Form.BYTES, steady_ns()))
    spool.close()
    (letter,) = json.loads(run("show", path, "--payload", "--json"))
    assert letter["payload_base64"] == "/wA="


def test_the_payload_of_all_is_not_printed_by_accident(path):
    fill(path)
    assert "--payload wants an ID, or --json" in run("show", path, "--payload", code=2)


def test_an_unknown_id_is_told(path):
    fill(path)
    assert run("show", path, 999, code=2) == f"Error: {path} has no queued message 999\n"
    assert run("show", path, 999, "--dead", code=2) == f"Error: {path} has no dead letter 999\n"
    assert "has no dead letter for 1 of these ids" in run("retry", path, 999, code=2)


def test_retry_puts_dead_letters_back_into_the_queue(path):
    fill(path)
    first, second = dead_ids(path)
    assert run("retry", path, second) == "1 put back into the queue\n"
    assert dead_ids(path) == [first]
    assert run("retry", path, "--all") == "1 put back into the queue\n"
    spool = SqliteSpool(path)
    assert spool.start() == 5
    got = spool.claim(10, steady())
    assert [one.body for one in got] == [b'{"n": %d}' % number for number in (2, 3, 4, 1, 0)]
    # Their lifetime begins anew.
    assert [one.attempts for one in got] == [0] * 5
    assert steady_ns() - got[4].accepted_ns < 3600e9
    assert got[4].headers == HEADERS
    spool.close()


def test_retry_leaves_what_is_damaged_dead(path):
    fill(path)
    whole = bytearray(file_in(path).read_bytes())
    while (at := whole.find(b'{"n": 0}')) >= 0:
        whole[at] = ord("[")
    file_in(path).write_bytes(whole)
    number = dead_ids(path)[0]
    assert run("retry", path, "--all") == "1 put back into the queue, 1 damaged left dead\n"
    (row,) = table("show", path, "--dead")
    assert (row["id"], row["request"]) == (str(number), "damaged: its checksum is wrong")
    assert "is not what it was" in run("show", path, number, "--dead", "--payload", code=2)
    (letter,) = json.loads(run("show", path, "--dead", "--json"))
    assert letter["damaged"] is True


def test_retry_wants_to_know_which(path):
    fill(path)
    assert "give IDS, or --all" in run("retry", path, code=2)
    assert "give IDS, or --all" in run("retry", path, 3, "--all", code=2)


def test_retry_on_a_folder_means_all_of_its_files(path):
    assert run("retry", path, "--all") == "0 put back into the queue\n"
    for number in (1, 2):
        fill_file(path, f"{number}-0000000{number}.db")
    assert run("retry", path, "--all") == "4 put back into the queue\n"


def test_purge_of_everything_removes_what_was_set_aside(path):
    fill(path)
    aside = [path / f"1-00000001.db.corrupt-20261124T093000{suffix}" for suffix in ("", "-wal")]
    for one in aside:
        one.write_bytes(b"a payload")
    run("purge", path, "--dead", "--yes")
    assert all(one.exists() for one in aside)
    assert run("purge", path, "--all", "--yes") == "3 deleted, and 1 damaged file removed\n"
    assert not any(one.exists() for one in aside)


def test_show_writes_no_control_characters_and_no_path_parameters(path):
    spool = SqliteSpool(path)
    spool.start()
    url = "http://a.test/v1;jsessionid=secret/events;token=secret?q=secret"
    fields = (("User-Agent", "mad\x1b[2Je\x07"), ("Content-Type", "text/plain"))
    assert spool.put(Message("PO\x1bST", url, fields, b"{}", Form.BYTES, steady_ns())) is None
    spool.close()
    (number,) = [letter["id"] for letter in json.loads(run("show", path, "--json"))]
    for arguments in ((path,), (path, number), (path, "--json")):
        shown = run("show", *arguments)
        assert "secret" not in shown
        assert all(each.isprintable() or each == "\n" for each in shown)
    assert "/v1;REDACTED/events;REDACTED" in run("show", path, number)


def test_purge_deletes_for_good_and_only_when_told_so_twice(path):
    fill(path)
    assert "give --dead, or --all" in run("purge", path, "--yes", code=2)
    assert "this deletes the dead letters" in run("purge", path, "--dead", code=2)
    assert len(dead_ids(path)) == 2
    assert run("purge", path, "--dead", "--yes") == "2 deleted\n"
    assert dead_ids(path) == []
    assert b'{"n": 0}' not in file_in(path).read_bytes()
    assert b'{"n": 3}' in file_in(path).read_bytes()
    assert "everything, what is queued too" in run("purge", path, "--all", code=2)
    assert run("purge", path, "--all", "--yes") == "3 deleted\n"
    assert b'{"n": 3}' not in file_in(path).read_bytes()
    spool = SqliteSpool(path)
    assert spool.start() == 0
    spool.close()


def test_the_commands_have_help():
    told = run("--help")
    for name in ("ls", "show", "retry", "purge", "salvage"):
        assert f"  {name} " in told
        assert run(name, "--help").startswith("Usage: wirewitness spool")


def test_ids_are_a_file_s_own(path):
    fill_file(path, "1-00000001.db", queued=1, dead=1)
    fill_file(path, "2-00000002.db", queued=1, dead=0)
    assert [row["file"] for row in table("show", path)] == ["1-00000001.db", "2-00000002.db"]
    assert [letter["file"] for letter in json.loads(run("show", path, "--json"))] == [
        "1-00000001.db",
        "2-00000002.db",
    ]
    for command in (("show", path, 2), ("retry", path, 2)):
        assert f"ids are a file's own, and {path} has 2 files: name one of them" in " ".join(
            run(*command, code=2).replace("│", " ").split()
        )
    assert "https://logx.optimizely.com" in run("show", path / "1-00000001.db", 2)
