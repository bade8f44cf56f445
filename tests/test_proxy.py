"""
What a witnessed instance answers in place of the bare one, and that what hands the object out hands out the proxy.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
import multiprocessing
import pickle
import threading

from types import SimpleNamespace
from unittest import mock

import pytest

from wirewitness import ledger_of, witness


EVENT = {"visitor": "v1"}


class Sender:
    def __init__(self):
        self.sent = 0
        self.settings = {}

    def dispatch_event(self, event):
        self.sent += 1
        return self.sent

    def __eq__(self, other):
        return isinstance(other, Sender) and self.sent == other.sent

    def __hash__(self):
        return 7

    def __len__(self):
        return 0

    def __iter__(self):
        return iter([1, 2])

    def __contains__(self, item):
        return item == 1

    def __getitem__(self, item):
        return item

    def __add__(self, other):
        return "sum"

    def __iadd__(self, other):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    def __await__(self):
        yield from ()
        return self

    def __aiter__(self):
        return self

    async def __anext__(self):
        self.sent += 1
        if self.sent > 2:
            raise StopAsyncIteration
        return self

    @property
    def itself(self):
        return self

    def fluent(self):
        return self

    async def fluent_later(self):
        return self

    def callback(self):
        return self.dispatch_event

    def steps(self):
        try:
            given = yield self
        except KeyError:
            given = "thrown"
        yield given
        return self

    async def steps_later(self):
        try:
            given = yield self
        except KeyError:
            given = "thrown"
        yield given

    @contextlib.contextmanager
    def session(self):
        yield self

    @contextlib.asynccontextmanager
    async def session_later(self):
        yield self

    @functools.lru_cache(maxsize=3)  # noqa: B019 -- its attributes are what is asked for
    def cached(self, key):
        return key


def is_witnessed(dispatcher):
    before = ledger_of(dispatcher).book().accepted
    dispatcher.dispatch_event(EVENT)
    return ledger_of(dispatcher).book().accepted == before + 1


def test_a_witnessed_instance_answers_as_the_bare_one():
    bare = Sender()
    seen = witness(bare)
    assert (list(seen), len(seen), bool(seen), 1 in seen, seen[5], seen + 1) == ([1, 2], 0, False, True, 5, "sum")
    assert seen == bare == seen
    assert {seen: "found"}[bare] == "found"
    assert not callable(seen)
    assert seen.cached(3) == 3
    assert seen.cached.cache_info().maxsize == 3
    assert str(inspect.signature(seen.dispatch_event)) == "(event)"


@pytest.mark.parametrize(
    "hand_out",
    [
        lambda seen: seen.fluent().fluent(),
        lambda seen: seen.itself,
        lambda seen: contextlib.ExitStack().enter_context(seen),
        lambda seen: contextlib.ExitStack().enter_context(seen.session()),
        lambda seen: next(seen.steps()),
        lambda seen: seen.__iadd__(1),
        lambda seen: SimpleNamespace(dispatch_event=seen.callback(), __wirewitness__=seen.__wirewitness__),
    ],
)
def test_what_hands_out_the_object_hands_out_the_proxy(hand_out):
    assert is_witnessed(hand_out(witness(Sender())))


async def test_what_hands_out_the_object_later_hands_out_the_proxy():
    seen = witness(Sender())
    async with seen as entered, seen.session_later() as session:
        pass
    handed_out = [await seen, await seen.fluent_later(), entered, session, await anext(seen.steps_later())]
    assert all(is_witnessed(each) for each in handed_out)
    assert [each is seen async for each in witness(Sender())] == [False, False]
    async for each in witness(Sender()):
        assert is_witnessed(each)


async def test_generators_of_a_witnessed_instance_take_what_is_sent_and_thrown_and_end_as_before():
    seen = witness(Sender())
    assert inspect.isgeneratorfunction(seen.steps)
    assert inspect.isasyncgenfunction(seen.steps_later)
    steps = seen.steps()
    next(steps)
    assert steps.send("sent") == "sent"
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value is seen
    steps = seen.steps()
    next(steps)
    assert steps.throw(KeyError()) == "thrown"
    steps.close()
    later = seen.steps_later()
    await anext(later)
    assert await later.athrow(KeyError()) == "thrown"
    await later.aclose()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda seen: pickle.loads(pickle.dumps(seen))])
def test_a_copy_of_a_witnessed_instance_is_witnessed_and_another(copied):
    seen = witness(Sender(), name="copied")
    another = copied(seen)
    assert is_witnessed(another)
    assert (another.sent, seen.sent) == (1, 0)
    assert another.__wirewitness__.ledger.name == "copied"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda seen: pickle.loads(pickle.dumps(seen))])
def test_a_copy_of_what_leads_back_to_its_proxy_leads_back_to_the_copy(copied):
    seen = witness(Sender())
    seen.settings["dispatcher"] = seen
    another = copied(seen)
    assert another.settings["dispatcher"] is another
    assert is_witnessed(another)


class HasLock:
    def __init__(self):
        self.lock = threading.Lock()

    def __getstate__(self):
        return {}

    def __setstate__(self, state):
        self.__init__()

    def dispatch_event(self, event):
        with self.lock:
            return "sent"


class Slots:
    __slots__ = ("url",)

    def __init__(self):
        self.url = "u"

    def dispatch_event(self, event):
        return self.url


@dataclasses.dataclass(frozen=True)
class Frozen:
    url: str = "u"

    def dispatch_event(self, event):
        return self.url


@pytest.mark.parametrize("kind", [HasLock, Slots, Frozen])
def test_how_a_class_pickles_and_copies_itself_is_kept(kind):
    for another in (pickle.loads(pickle.dumps(witness(kind()))), copy.deepcopy(witness(kind()))):
        assert is_witnessed(another)


def test_a_witnessed_dataclass_is_one():
    seen = witness(Frozen())
    assert dataclasses.is_dataclass(seen)
    assert dataclasses.asdict(seen) == {"url": "u"}
    assert dataclasses.replace(seen, url="v") == Frozen("v")
    with pytest.raises(dataclasses.FrozenInstanceError):
        seen.url = "v"


def test_a_bound_method_of_a_witnessed_instance_can_be_pickled():
    assert pickle.loads(pickle.dumps(witness(Sender()).dispatch_event))(EVENT) == 1


def test_what_replaces_the_dispatching_method_is_called_and_watched():
    seen = witness(Sender())
    with mock.patch.object(seen, "dispatch_event", return_value="patched"):
        assert seen.dispatch_event(EVENT) == "patched"
    with mock.patch.object(Sender, "dispatch_event", return_value="patched"):
        assert seen.dispatch_event(EVENT) == "patched"
    assert seen.dispatch_event(EVENT) == 1
    assert seen.__wirewitness__.ledger.book().accepted == 3


def _dispatch(seen, answers):
    answers.put((seen.dispatch_event(EVENT), ledger_of(seen).book().accepted))


@pytest.mark.processes
def test_a_witnessed_instance_can_be_sent_to_a_spawned_process():
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_dispatch, args=(witness(Sender()), answers))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert answers.get() == (1, 1)
