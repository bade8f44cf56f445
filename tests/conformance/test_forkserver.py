"""
Each scenario has a process of its own, forked or started: what one does hurts no other, and none can tell the difference.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import textwrap
import threading
import time

from pathlib import Path

import pytest

from wirewitness.conformance import forkserver, runner
from wirewitness.conformance.endpoints import Endpoint
from wirewitness.conformance.forkserver import ForkServer, Lost, server
from wirewitness.conformance.observation import EMPTY
from wirewitness.conformance.runner import Aim, check
from wirewitness.conformance.suite import choose


pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not forkserver.POSSIBLE, reason="there is no safe fork() here"),
]

MODULE = """
    import gc, json, os, signal, sys, threading, time

    SEEN = os.environ["SEEN"]
    with open(SEEN + "/imports", "a") as file:
        file.write(f"{os.getpid()} {os.getppid()}\\n")

    def kind_of(descriptor):
        try:
            kind = os.readlink("/proc/self/fd/" + descriptor).partition(":")[0]
        except FileNotFoundError:
            return None
        return None if kind in ("/dev/null", "pipe") else os.path.basename(kind)

    def tells(event):
        process = {
            "pid": os.getpid(),
            "session": os.getsid(0) == os.getpid(),
            "group": os.getpgid(0) == os.getpid(),
            "folder": os.getcwd(),
            "path": sys.path,
            "arguments": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
            "main": os.path.basename(sys.modules["__main__"].__file__),
            "input": sys.stdin.read(),
            "terminals": [stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)],
            "buffering": [stream.line_buffering for stream in (sys.stdout, sys.stderr)],
            "signals": [str(signal.getsignal(one)) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)],
            "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
            "threads": [thread.name for thread in threading.enumerate()],
            "descriptors": sorted(kind for kind in map(kind_of, os.listdir("/proc/self/fd")) if kind),
            "environment": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
            "umask": os.umask(0o77),
            "frozen": gc.get_freeze_count(),
        }
        with open(f"{SEEN}/{os.getpid()}.json", "w") as file:
            json.dump(process, file)

    def patches(event):
        with open(SEEN + "/patched", "a") as file:
            file.write(f"{getattr(json, 'patched', 0)} {'added' in os.environ} {len(sys.path)}\\n")
        json.patched = True
        os.environ["added"] = "1"
        sys.path.append("/more")
        os.chdir("/")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def parricide(event):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(30)

    def hangs(event):
        with open(SEEN + "/hanging", "a") as file:
            file.write(f"{os.getpid()}\\n")
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            time.sleep(60)

    def exits(event):
        threading.Thread(target=lambda: (time.sleep(0.2), open(SEEN + "/thread", "a").close())).start()
        import atexit
        atexit.register(lambda: open(SEEN + "/atexit", "a").close())
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "forked.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.setenv("SEEN", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    forkserver.close_all()


def play(name, *scenarios, **options):
    aim = Aim(f"forked:{name}", shape="event", settle=0.1, **options)
    return [runner.play(aim, scenario, EMPTY) for scenario in choose(scenarios or ("payload/plain",))]


def told(folder):
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    for path in folder.glob("*.json"):
        path.unlink()
    return found


def test_a_forked_process_is_like_one_that_is_started(folder):
    play("tells")
    forked = told(folder)
    play("tells", spawn=True)
    started = told(folder)
    assert forked[0].pop("pid") != started[0].pop("pid")
    assert forked == started


def test_the_target_is_loaded_in_the_forked_processes_only(folder):
    play("tells", "payload/plain", "payload/empty")
    pids, parents = zip(*(line.split() for line in (folder / "imports").read_text().splitlines()), strict=True)
    assert len(set(pids)) == len(pids) == 2
    assert len(set(parents)) == 1
    assert not {*pids} & {*parents}


def test_what_a_target_patches_no_other_scenario_sees(folder):
    play("patches", "payload/plain", "payload/empty", "payload/unicode")
    assert len({*(folder / "patched").read_text().splitlines()}) == 1
    assert (folder / "patched").read_text().startswith("0 False ")


def test_what_a_target_does_at_its_end_is_waited_for(folder):
    play("exits")
    assert (folder / "atexit").exists()
    assert (folder / "thread").exists()


def test_a_target_that_kills_its_parent_fails_its_scenario_and_the_next_is_played(folder):
    findings = check(Aim("forked:parricide", settle=0.1), choose(("payload/plain", "payload/empty")))
    assert [finding.result.mark.value for finding in findings] == ["fail", "fail"]
    (finding,) = play("tells")
    assert finding.seen.died is None


def gone(pid):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.01)
                continue
        return True
    return False


def test_a_process_that_hangs_is_over_when_its_time_is(folder):
    (finding,) = play("hangs", timeout=1.0)
    assert finding.result.reason == "hangs: not over after 1 s"
    for pid in (folder / "hanging").read_text().split():
        assert gone(int(pid))


def test_without_its_runner_a_server_ends_with_all_that_it_has_forked(folder):
    one = ForkServer(os.environ)
    orders = {"target": "forked:hangs", "shape": "event", "kwargs": {}, "scenario": "payload/plain", "settle": 0.1}
    orders |= {"origin": "http://127.0.0.1:9", "report": str(folder / "report.json")}
    running = threading.Thread(target=one.run, args=(orders, os.environ, folder / "output", 60.0))
    running.start()
    deadline = time.monotonic() + 30
    while not (folder / "hanging").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    one.close()
    running.join(30)
    assert not running.is_alive()
    assert gone(int((folder / "hanging").read_text()))
    assert one._process.returncode == 0


def test_a_server_that_can_not_be_had_is_done_without(folder, monkeypatch):
    class NoServer:
        running = 0

        def __init__(self, _):
            pass

        def run(self, *_):
            raise Lost

        def close(self):
            pass

    monkeypatch.setattr(forkserver, "ForkServer", NoServer)
    play("tells")
    assert len(told(folder)) == 1


def test_a_server_is_for_one_folder_and_environment(folder, monkeypatch, tmp_path_factory):
    with server(os.environ) as first:
        pass
    with server(os.environ) as same:
        assert same is first
        with server({**os.environ, "MORE": "1"}) as another:
            assert another is not first
            assert first._process.poll() is None
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with server(os.environ) as elsewhere:
        assert elsewhere is not first
    assert first._process.poll() is not None


def test_where_there_is_no_fork_each_process_is_started(folder, monkeypatch):
    monkeypatch.setattr(runner, "POSSIBLE", False)
    play("tells")
    parents = {line.split()[1] for line in (folder / "imports").read_text().splitlines()}
    assert parents == {str(os.getpid())}


def test_a_signal_is_told_as_of_a_process_that_was_started(folder):
    for spawn in (False, True):
        aim = Aim("forked:hangs", timeout=1.0, spawn=spawn)
        assert runner._run(aim, "payload/plain", Endpoint("http://127.0.0.1:9"))[1] == "hangs: not over after 1 s"
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
