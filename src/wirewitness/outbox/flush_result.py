"""
What an Outbox still holds, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FlushResult:
    """
    What was left when waiting was over.

    Attributes:
        remaining: Payloads whose end isn't known yet.
        why: Their number by what they wait for: ``queued``, ``retrying``, ``circuit_open``, ``in_flight``.
        kept: How many of them are on disk, and will be sent by the next process.
        lost: How many were given up by closing.
        dead: Dead letters: payloads that were given up because no attempt could succeed.
    """

    remaining: int = 0
    why: Mapping[str, int] = field(default_factory=dict)
    kept: int = 0
    lost: int = 0
    dead: int = 0

    @property
    def empty(self) -> bool:
        """Whether nothing was left."""
        return not self.remaining and not self.lost

    def __str__(self) -> str:
        why = ", ".join(f"{name} {number}" for name, number in self.why.items() if number)
        left = f"{self.remaining} remaining" + (f" ({why})" if why else "")
        return f"{left}, {self.kept} kept on disk, {self.lost} lost, {self.dead} dead letters"
