"""
Adapters read an :class:`~wirewitness.typing.Intent` from a call's arguments, and never change them.

An adapter of your own is a callable ``(args, kwargs) -> Intent``; nothing else is asked of it.
"""

from wirewitness.adapters.callable import explicit
from wirewitness.adapters.optimizely import event
from wirewitness.adapters.shape import METHODS, adapter_for, binds
from wirewitness.adapters.three_args import three_arguments


__all__ = ["METHODS", "adapter_for", "binds", "event", "explicit", "three_arguments"]
