"""
What an Optimizely client is surrounded by: its datafile, its experiments, its decisions and its events.
"""

try:
    import optimizely as _sdk  # noqa: F401 -- so that what's missing is named
except ImportError as _missing:  # pragma: no cover -- the test environment has it
    msg = "wirewitness.optimizely needs the SDK: pip install 'wirewitness[optimizely]'"
    raise ModuleNotFoundError(msg, name="optimizely") from _missing

from wirewitness.optimizely.adapt import ThreeArguments, adapt_dispatcher
from wirewitness.optimizely.datafile import CachedConfigManager, DatafileSource, Fault, Fetch, Fetched
from wirewitness.optimizely.event_ledger import EventBook
from wirewitness.optimizely.experiments import Experiment, Feature, current_visitor, experiment, feature, visitor
from wirewitness.optimizely.instrument import book_of, instrument, odp_book_of, uninstrument


__all__ = [
    "CachedConfigManager",
    "DatafileSource",
    "EventBook",
    "Experiment",
    "Fault",
    "Feature",
    "Fetch",
    "Fetched",
    "ThreeArguments",
    "adapt_dispatcher",
    "book_of",
    "current_visitor",
    "experiment",
    "feature",
    "instrument",
    "odp_book_of",
    "uninstrument",
    "visitor",
]
