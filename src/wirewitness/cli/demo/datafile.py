"""
An Optimizely project, as the SDK gets it from Optimizely's content delivery network: its datafile.
"""

from __future__ import annotations

import json

from typing import Any, Final


FLAG: Final = "new_checkout"
"""A flag, delivered by an experiment of two variations."""

EVENT: Final = "order_placed"
"""What is counted for the experiment."""


REVENUE: Final = 867_530_942
"""What the order brings, in cents: a number that stands nowhere else."""


def _variation(identifier: str, key: str) -> dict[str, Any]:
    return {"id": identifier, "key": key, "featureEnabled": True, "variables": []}


_EXPERIMENT: Final = {
    "id": "9300000000301",
    "key": "checkout_in_one_page",
    "status": "Running",
    "layerId": "9300000000302",
    "audienceIds": [],
    "forcedVariations": {},
    "variations": [_variation("9300000000303", "three_pages"), _variation("9300000000304", "one_page")],
    "trafficAllocation": [
        {"entityId": "9300000000303", "endOfRange": 5000},
        {"entityId": "9300000000304", "endOfRange": 10000},
    ],
}

DATAFILE: Final = json.dumps(
    {
        "version": "4",
        "revision": "42",
        "accountId": "9300000000001",
        "projectId": "9300000000002",
        "anonymizeIP": True,
        "botFiltering": False,
        "sendFlagDecisions": True,
        "experiments": [_EXPERIMENT],
        "featureFlags": [
            {
                "id": "9300000000401",
                "key": FLAG,
                "rolloutId": "",
                "experimentIds": [_EXPERIMENT["id"]],
                "variables": [],
            },
        ],
        "events": [{"id": "9300000000501", "key": EVENT, "experimentIds": [_EXPERIMENT["id"]]}],
        "attributes": [{"id": "9300000000601", "key": "plan"}],
        "audiences": [],
        "typedAudiences": [],
        "groups": [],
        "rollouts": [],
        "variables": [],
    },
)
