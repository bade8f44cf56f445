"""
From bytes to what the SDK decides by: nothing becomes a client's datafile that isn't one.
"""

from __future__ import annotations

import hashlib
import inspect
import json

from typing import Any, Final, NamedTuple

from optimizely.exceptions import InvalidInputException, UnsupportedDatafileVersionException
from optimizely.helpers import validator
from optimizely.optimizely_config import OptimizelyConfig, OptimizelyConfigService
from optimizely.project_config import SUPPORTED_VERSIONS, ProjectConfig

from wirewitness.telemetry.datafile import Fault


class Rejected(Exception):  # noqa: N818 -- named for what it says
    """
    It's no datafile, or not the right one.

    Attributes:
        fault: Why.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


class Datafile(NamedTuple):
    """
    A datafile that the SDK has taken.

    Attributes:
        text: As it came.
        digest: SHA-256 of the text.
        config: What the SDK decides by.
        optimizely_config: What the SDK shows to people.
    """

    text: str
    digest: bytes
    config: ProjectConfig
    optimizely_config: OptimizelyConfig

    def __repr__(self) -> str:
        return f"<Datafile of {len(self.text)} characters, revision {self.revision}>"

    @property
    def revision(self) -> str | None:
        """Its revision: digits, by convention."""
        revision: object = self.config.revision
        return None if revision is None else str(revision)


# What the SDK stumbles with on a datafile that has the right shape and the wrong contents.
_STUMBLES: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    InvalidInputException,
    UnsupportedDatafileVersionException,
)
_TAKES_LOGGER: Final = "logger" in inspect.signature(OptimizelyConfigService).parameters
"""From 5.0 on."""


class Parser:
    """
    Makes datafiles.

    Args:
        project_id: The only project that is taken; None for any.
        schema: Whether the SDK's JSON schema must be met.
        logger: The SDK's.
        error_handler: The SDK's.
    """

    def __init__(self, project_id: str | None, *, schema: bool, logger: Any, error_handler: Any) -> None:
        self._project_id = project_id
        self._schema = schema
        self._logger = logger
        self._error_handler = error_handler

    def __call__(self, given: bytes | str) -> Datafile:
        """
        Parse a datafile. An older revision than the last is fine: somebody has rolled back.

        Raises:
            Rejected: If it isn't one.
        """
        text, parsed = _load(given)
        if not isinstance(parsed, dict):
            raise Rejected(Fault.NOT_DATAFILE)
        self._check(text, parsed)
        try:
            config = ProjectConfig(text, self._logger, self._error_handler)
            shown = self._shown(config)
        except _STUMBLES:
            raise Rejected(Fault.NOT_DATAFILE) from None
        return Datafile(text, digest_of(text), config, shown)

    def _check(self, text: str, parsed: dict[str, Any]) -> None:
        if "version" not in parsed or "projectId" not in parsed:
            raise Rejected(Fault.NOT_DATAFILE)
        if parsed["version"] not in list(SUPPORTED_VERSIONS):
            raise Rejected(Fault.VERSION)
        if self._project_id is not None and parsed["projectId"] != self._project_id:
            raise Rejected(Fault.PROJECT)
        if self._schema and not validator.is_datafile_valid(text):
            raise Rejected(Fault.NOT_DATAFILE)

    def _shown(self, config: ProjectConfig) -> OptimizelyConfig:
        arguments: tuple[Any, ...] = (config, self._logger) if _TAKES_LOGGER else (config,)
        shown = OptimizelyConfigService(*arguments).get_config()
        if shown is None:
            raise Rejected(Fault.NOT_DATAFILE)
        return shown


def digest_of(text: str) -> bytes:
    """
    SHA-256 of a datafile.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _load(given: bytes | str) -> tuple[str, Any]:
    try:
        text = given.decode("utf-8-sig") if isinstance(given, bytes) else given
        return text, json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise Rejected(Fault.NOT_JSON) from None
