"""
The table of wires: when each tap is put on, proved and taken off.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import types

import pytest

from wirewitness import wire
from wirewitness._guard import INTERNAL_ERRORS, TAP_HEALTH
from wirewitness.wire import TapState, Wires, canary, http_client


class Told:
    """A wire that keeps what it was told."""

    def __init__(self, module="sys", name="told", state=TapState.INTACT, *, proof=True):
        self.module, self.name, self.state, self.proof = module, name, state, proof
        self.calls = []

    def install(self):
        self.calls.append("install")

    def uninstall(self):
        self.calls.append("uninstall")

    def check(self):
        return self.state

    def prove(self):
        self.calls.append("prove")
        if isinstance(self.proof, Exception):
            raise self.proof
        return self.proof


@pytest.fixture
def library(tmp_path, monkeypatch):
    """The name of a module that can be imported, and has not been."""
    name = f"library_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text("import sys\nassert 'never'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_what_has_been_imported_is_tapped_and_proved_once():
    told = Told()
    wires = Wires([told])
    wires.install()
    wires.install()
    assert wires.check() is TapState.INTACT
    assert told.calls == ["install", "prove"]


def test_the_last_uninstall_takes_the_taps_off():
    told = Told()
    wires = Wires([told])
    for _ in range(2):
        wires.install()
    wires.uninstall()
    assert "uninstall" not in told.calls
    wires.uninstall()
    wires.uninstall()
    assert told.calls == ["install", "prove", "uninstall"]
    assert wires.states() == {}
    wires.install()
    assert told.calls[3:] == ["install", "prove"]


def test_a_tap_never_imports_its_library(library):
    wires = Wires([Told(library)])
    wires.install()
    wires.check()
    assert wires.states() == {"told": TapState.ABSENT}
    assert library not in sys.modules


def test_a_library_is_tapped_right_after_its_import(library):
    told = Told(library)
    wires = Wires([told])
    wires.install()
    assert told.calls == []
    __import__(library)
    assert told.calls == ["install", "prove"]


def test_a_library_whose_import_was_not_noticed_is_tapped_at_the_next_dispatch(library, monkeypatch):
    told = Told(library)
    wires = Wires([told])
    wires.install()
    monkeypatch.setitem(sys.modules, library, types.ModuleType(library))
    assert wires.check() is TapState.INTACT
    assert told.calls == ["install", "prove"]


def test_a_library_that_another_thread_is_importing_is_not_tapped_yet(library, monkeypatch):
    told = Told(library)
    wires = Wires([told])
    wires.install()
    module = types.ModuleType(library)
    module.__spec__ = types.SimpleNamespace(_initializing=True)
    monkeypatch.setitem(sys.modules, library, module)
    wires.check()
    assert told.calls == []
    module.__spec__._initializing = False
    wires.check()
    assert told.calls == ["install", "prove"]


def test_a_library_that_is_imported_after_the_taps_were_taken_off_is_left_alone(library):
    told = Told(library)
    wires = Wires([told])
    wires.install()
    wires.uninstall()
    __import__(library)
    assert told.calls == []


def test_a_wire_can_be_added_before_and_after_the_installation():
    before, after = Told(name="before"), Told(name="after")
    wires = Wires([])
    wires.add(before)
    assert before.calls == []
    wires.install()
    wires.add(after)
    assert before.calls == after.calls == ["install", "prove"]


def test_a_wire_that_is_added_again_takes_the_place_of_the_first():
    first, second = Told(name="same"), Told(name="same")
    wires = Wires([first])
    wires.install()
    wires.add(second)
    assert first.calls == ["install", "prove", "uninstall"]
    assert second.calls == ["install", "prove"]
    wires.uninstall()
    assert first.calls[3:] == []
    assert second.calls[2:] == ["uninstall"]


@pytest.mark.parametrize("proof", [False, ArithmeticError()], ids=["unseen", "raised"])
def test_a_tap_that_does_not_see_its_canary_is_taken_off_counted_and_logged(proof, caplog):
    before = INTERNAL_ERRORS.counts()["tap"]
    moved, other = Told(name="moved", proof=proof), Told(name="other")
    wires = Wires([moved, other])
    wires.install()
    try:
        assert moved.calls == ["install", "prove", "uninstall"]
        assert wires.states() == {"moved": TapState.BLIND, "other": TapState.INTACT}
        assert not TAP_HEALTH.seeing["moved"]
        assert wires.check() is TapState.INTACT
        assert INTERNAL_ERRORS.counts()["tap"] > before
        assert "the tap on moved does not see" in caplog.text
    finally:
        wires.uninstall()
    assert "moved" not in TAP_HEALTH.seeing


def test_what_is_mocked_at_first_is_proved_when_it_is_back():
    told = Told(state=TapState.LOST)
    wires = Wires([told])
    wires.install()
    assert wires.check() is TapState.LOST
    assert told.calls == ["install"]
    told.state = TapState.INTACT
    wires.check()
    assert told.calls == ["install", "prove"]


def test_the_worst_state_of_all_wires_counts():
    lost, back, well = Told(state=TapState.LOST), Told(state=TapState.RESTORED), Told()
    for order in ([lost, back, well], [well, back, lost]):
        wires = Wires(order)
        wires.install()
        assert wires.check() is TapState.LOST
    wires = Wires([well, back, well])
    wires.install()
    assert wires.check() is TapState.RESTORED


def test_a_wire_s_own_faults_end_with_it():
    class Broken(Told):
        def install(self):
            raise ArithmeticError

    class Unsure(Told):
        def check(self):
            raise ArithmeticError

    well = Told(name="well")
    wires = Wires([Broken(name="broken"), Unsure(name="unsure"), well])
    wires.install()
    assert wires.check() is TapState.LOST
    assert well.calls[0] == "install"


def test_the_wires_of_this_process_are_installed_and_uninstalled_by_count():
    wire.install()
    wrapper = http_client.http.client.HTTPConnection.send
    wire.install()
    wire.uninstall()
    assert http_client.http.client.HTTPConnection.send is wrapper
    assert wire.states()["http.client"] is TapState.INTACT


def test_the_canary_of_http_client_is_seen_while_the_tap_is_on_only():
    wire.install()
    (request,) = http_client.TAP.canaries
    assert http_client.TAP.prove()
    http_client.TAP.uninstall()
    try:
        assert not canary.sees(request)
        assert not http_client.TAP.prove()
    finally:
        http_client.TAP.install()
    assert canary.sees(request)


FORKED = """
import os, threading
from wirewitness import wire, witness

witness(lambda http_verb, url, params: None)
held, go = threading.Event(), threading.Event()

def hold():
    with wire.WIRES._lock, wire.http_client.TAP._lock:
        held.set()
        go.wait(30)

thread = threading.Thread(target=hold)
thread.start()
held.wait(30)
pid = os.fork()
if not pid:
    wire.uninstall()
    wire.install()
    os._exit(0 if wire.check() is wire.TapState.INTACT else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
go.set()
thread.join()
"""


@pytest.mark.processes
def test_a_forked_child_does_not_wait_for_a_lock_that_the_parent_held():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORKED)],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.split() == ["0"], done.stderr
