"""
Installs this project with extras and dependency groups: exactly the files that constraints.txt names, their hashes compared.

    python .ci/install.py [--editable] [--extra NAME]... [--group NAME]...

pip compares hashes only where every requirement has one, and a folder has none: so what the project needs comes first, and
the project itself afterwards, without anything else.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib

from collections.abc import Iterator
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent


def needed(extras: list[str], project: dict) -> Iterator[str]:
    """
    The requirements of extras, and of the extras of this project that they name.
    """
    for extra in extras:
        for requirement in project["optional-dependencies"][extra]:
            own = re.fullmatch(rf"{project['name']}\[(.+)\]", requirement)
            yield from needed(own[1].split(","), project) if own else [requirement]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--editable", action="store_true")
    parser.add_argument("--extra", action="append", default=[])
    parser.add_argument("--group", action="append", default=[])
    asked = parser.parse_args()
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, backend = described["project"], described["build-system"]["requires"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    groups = [f"--group={ROOT / 'pyproject.toml'}:{name}" for name in asked.group]
    wanted = [*backend, "editables", *project["dependencies"], *needed(asked.extra, project)]
    subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)
    subprocess.run([*pip, "-c", ROOT / "constraints.txt", *groups, *wanted], check=True)
    own = ["--editable"] if asked.editable else ["--force-reinstall"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", *own, ROOT], check=True)


if __name__ == "__main__":
    main()
