from __future__ import annotations

import subprocess
import sys

from pathlib import Path

import pytest


pytestmark = pytest.mark.processes


EXAMPLES = Path(__file__).parent.parent / "examples"

PRINTED = {
    "any_callable.py": "the payload was embedded, as far as the response shows\n",
    "in_a_test.py": "the payload arrived byte for byte\n",
    "optimizely_client.py": "accepted 1 = delivered 1 + rejected 0 + failed 0 + dropped 0 + unconfirmed 0 + pending 0\n",
    "killed_and_restarted.py": "started again: the events of 40 orders arrived, in 40 payloads\n",
    "optimizely_cached_datafile.py": "accepted 3 = delivered 3 + rejected 0 + failed 0 + dropped 0 + unconfirmed 0 + pending 0\n",
    "optimizely_instrumented.py": "payloads: accepted 1 = delivered 1 + rejected 0 + failed 0 + dropped 0 + unconfirmed 0 + pending 0\n",
    "three_arguments.py": "accepted 2 = delivered 1 + rejected 1 + failed 0 + dropped 0 + unconfirmed 0 + pending 0\n",
}


def test_every_example_is_listed_here_and_in_their_readme():
    files = {path.name for path in EXAMPLES.glob("*.py")}
    assert files == set(PRINTED)
    assert all(f"({name})" in (EXAMPLES / "README.md").read_text() for name in files)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("name", PRINTED)
def test_an_example_runs_by_itself(name):
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(PRINTED[name])
