"""
Experiments: a callable a variation, and the one runs that the SDK chooses; typed variables of features beside it.
"""

from __future__ import annotations

import contextlib
import html

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, get_args, overload

from wirewitness._guard import fail_open
from wirewitness.errors import ConfigurationError, shown
from wirewitness.telemetry import MeterProvider
from wirewitness.telemetry.experiments import Chosen, ExperimentFault, ExperimentTelemetry


F = TypeVar("F", bound=Callable[..., Any])
D = TypeVar("D")

By: TypeAlias = Literal["activate", "get_variation", "decide"]
"""Which method of the SDK chooses: ``activate`` and ``decide`` send an impression, ``get_variation`` sends none."""

# OptimizelyDecideOption.DISABLE_DECISION_EVENT, which is a string in all versions of the SDK.
_WITHOUT_EVENT: Final = ("DISABLE_DECISION_EVENT",)


class Visitor(NamedTuple):
    """
    Whom the current request is for.

    Attributes:
        user_id: What the SDK buckets by.
        attributes: What audiences are made by.
    """

    user_id: str
    attributes: Mapping[str, Any]


_VISITOR: Final[ContextVar[Visitor | None]] = ContextVar("wirewitness_visitor", default=None)


@contextlib.contextmanager
def visitor(user_id: object, attributes: Mapping[str, Any] | None = None) -> Iterator[None]:
    """
    Say whom experiments are for inside this block: this thread, this task, and the tasks that it starts.

    Args:
        user_id: Made a string, as the SDK wants it. None is nobody, for whom primaries are served.
        attributes: What audiences are made by. They're copied.
    """
    one = None if user_id is None else Visitor(str(user_id), dict(attributes or {}))
    token = _VISITOR.set(one)
    try:
        yield
    finally:
        _VISITOR.reset(token)


def current_visitor() -> Visitor | None:
    """
    Whom experiments are for right now, or None.
    """
    return _VISITOR.get()


class Html(str):
    """
    Text that is HTML already: templates that know ``__html__`` don't escape it again.
    """

    __slots__ = ()

    def __html__(self) -> str:
        """
        Itself.
        """
        return str(self)


class _Asked:
    """
    What a client is asked about, for the current visitor.
    """

    def __init__(
        self, client: Any, key: str, attributes: Mapping[str, Any] | None, meter_provider: MeterProvider | None
    ) -> None:
        self.key = key
        self._client = client
        self._attributes = dict(attributes or {})
        self._telemetry = ExperimentTelemetry(key, meter_provider)

    def _ask(self, question: Callable[[str, dict[str, Any]], Any]) -> Any:
        """
        The SDK's answer; None, and counted, where there's no visitor, or where it raises.
        """
        whom = _VISITOR.get()
        if whom is None:
            self._telemetry.slipped(ExperimentFault.NO_VISITOR)
            return None
        # The SDK takes a dictionary and no other mapping, and may keep it.
        answered = _answer(question, whom.user_id, {**whom.attributes, **self._attributes})
        if answered is None:
            self._telemetry.slipped(ExperimentFault.SDK_ERROR)
            return None
        return answered[0]


@fail_open("experiment")
def _answer(question: Callable[[str, dict[str, Any]], Any], user_id: str, attributes: dict[str, Any]) -> tuple[Any]:
    return (question(user_id, attributes),)


class Experiment(_Asked):
    """
    An A/B test with a callable for each of its variations. Called, it runs one of them for the current visitor, and returns
    what that returns: a coroutine for an ``async def``.

    The primary runs where the SDK chooses nothing (the experiment is paused or isn't in the datafile, the visitor isn't in
    it, nobody is set with :func:`visitor`), where it chooses a variation that isn't declared, and where it raises. What the
    callable itself raises goes to the caller.

    Args:
        client: An Optimizely client.
        key: The experiment's key, or the flag's with ``by="decide"``.
        by: The SDK's method: ``activate``, which sends an impression, ``get_variation``, which doesn't, or ``decide``.
        attributes: Of the visitor, for this experiment only.
        meter_provider: None for the global one.
    """

    def __init__(
        self,
        client: Any,
        key: str,
        *,
        by: By = "activate",
        attributes: Mapping[str, Any] | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        if by not in get_args(By):
            msg = f"by={shown(by)}: must be one of {', '.join(get_args(By))}"
            raise ConfigurationError(msg)
        super().__init__(client, key, attributes, meter_provider)
        self._by = by
        self._variations: dict[str, Callable[..., Any]] = {}
        self._primary: str | None = None

    @overload
    def variation(self, key: str, run: F, *, primary: bool = ...) -> F: ...

    @overload
    def variation(self, key: str, *, primary: bool = ...) -> Callable[[F], F]: ...

    def variation(self, key: str, run: Any = None, *, primary: bool = False) -> Any:
        """
        Declare what to run for a variation. Without ``run`` it's a decorator.

        Args:
            key: The variation's key.
            run: What to run.
            primary: Whether it runs where no other can be chosen.

        Raises:
            ConfigurationError: If the variation, or a primary, is declared already.
        """
        if run is None:
            return lambda given: self.variation(key, given, primary=primary)
        if key in self._variations or (primary and self._primary is not None):
            msg = f"experiment {self.key}: {'variation ' + key if key in self._variations else 'a primary'} is declared already"
            raise ConfigurationError(msg)
        self._variations[key] = run
        self._primary = key if primary else self._primary
        self._telemetry.declare(key)
        return run

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """
        Run the variation that the SDK chooses, or the primary.

        Args:
            *args: For the callable.
            **kwargs: For the callable.

        Returns:
            What the callable returns; None where there's none to run.
        """
        key, chosen = self._select(self._ask(self._choose))
        if key is None:
            return None
        self._telemetry.served(key, chosen)
        return self._variations[key](*args, **kwargs)

    def _select(self, key: Any) -> tuple[str | None, Chosen]:
        if isinstance(key, str) and key in self._variations:
            return key, Chosen.SDK
        if key is not None:
            self._telemetry.slipped(ExperimentFault.UNKNOWN_VARIATION)
        if self._primary is None:
            self._telemetry.slipped(ExperimentFault.NO_PRIMARY)
        return self._primary, Chosen.PRIMARY

    def _choose(self, user_id: str, attributes: dict[str, Any]) -> Any:
        if self._by == "decide":
            return self._decide(user_id, attributes, [])
        return getattr(self._client, self._by)(self.key, user_id, attributes)

    def _look(self, user_id: str, attributes: dict[str, Any]) -> Any:
        if self._by == "decide":
            return self._decide(user_id, attributes, [*_WITHOUT_EVENT])
        return self._client.get_variation(self.key, user_id, attributes)

    def _decide(self, user_id: str, attributes: dict[str, Any], options: list[str]) -> Any:
        return self._client.create_user_context(user_id, attributes).decide(self.key, options).variation_key

    def tag(self, evar: object = None) -> Html:
        """
        A hidden input for a page's analytics, that tells experiment and variation. It sends no impression.

        Args:
            evar: The analytics variable, or None.

        Returns:
            HTML, escaped; empty where no variation is chosen for the visitor.
        """
        chosen = self._ask(self._look)
        if not chosen:
            return Html("")
        key = html.escape(f"{self.key}:{chosen}")
        shown = "" if evar is None else html.escape(str(evar))
        return Html(
            f'<input type="hidden" name="ab_{key}" id="ab_id_{key}" value="" '
            f'data-optimizely="{key}" data-optimizely-evar="{shown}">'
        )


class Feature(_Asked):
    """
    A feature that is on or off for the current visitor, and its variables. Nothing here raises: where the SDK has no answer,
    the feature is off, and a variable is its default.

    Args:
        client: An Optimizely client.
        key: The feature's key.
        attributes: Of the visitor, for this feature only.
        meter_provider: None for the global one.
    """

    def __init__(
        self,
        client: Any,
        key: str,
        *,
        attributes: Mapping[str, Any] | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        super().__init__(client, key, attributes, meter_provider)
        for key_of_pair in ("on", "off"):
            self._telemetry.declare(key_of_pair)

    def enabled(self) -> bool:
        """
        Whether it's on. Sends an impression where the SDK does.
        """
        on = self._ask(lambda *whom: self._client.is_feature_enabled(self.key, *whom))
        self._telemetry.served("on" if on else "off", Chosen.PRIMARY if on is None else Chosen.SDK)
        return bool(on)

    @overload
    def string(self, name: str, default: D) -> str | D: ...
    @overload
    def string(self, name: str) -> str | None: ...
    def string(self, name: str, default: Any = None) -> Any:
        """
        A variable that is text.
        """
        return self._variable("string", name, default)

    @overload
    def boolean(self, name: str, default: D) -> bool | D: ...
    @overload
    def boolean(self, name: str) -> bool | None: ...
    def boolean(self, name: str, default: Any = None) -> Any:
        """
        A variable that is true or false.
        """
        return self._variable("boolean", name, default)

    @overload
    def integer(self, name: str, default: D) -> int | D: ...
    @overload
    def integer(self, name: str) -> int | None: ...
    def integer(self, name: str, default: Any = None) -> Any:
        """
        A variable that is a whole number.
        """
        return self._variable("integer", name, default)

    @overload
    def double(self, name: str, default: D) -> float | D: ...
    @overload
    def double(self, name: str) -> float | None: ...
    def double(self, name: str, default: Any = None) -> Any:
        """
        A variable that is a number.
        """
        return self._variable("double", name, default)

    @overload
    def json(self, name: str, default: D) -> dict[str, Any] | D: ...
    @overload
    def json(self, name: str) -> dict[str, Any] | None: ...
    def json(self, name: str, default: Any = None) -> Any:
        """
        A variable that is a JSON object.
        """
        return self._variable("json", name, default)

    def _variable(self, kind: str, name: str, default: Any) -> Any:
        value = self._ask(lambda *whom: getattr(self._client, f"get_feature_variable_{kind}")(self.key, name, *whom))
        if value is None:
            self._telemetry.slipped(ExperimentFault.NO_VALUE)
            return default
        return value


experiment: Final = Experiment
feature: Final = Feature
