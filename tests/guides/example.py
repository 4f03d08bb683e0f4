"""The example of CONTRIBUTING.md put into a copy of the project, as a contributor would put it into the project itself."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.guides.documents import DOCUMENTS, EXAMPLE
from tests.support.paths import ROOT

FOLDERS = ("longattn_core", "pages", "assets", "tests", ".streamlit")
FILES = ("app.py", "pyproject.toml", *DOCUMENTS)
NOT_COPIED = shutil.ignore_patterns("__pycache__", "guides", "browser")


def files():
    """The example's files, by their paths in the project."""
    return sorted(path.relative_to(EXAMPLE).as_posix() for path in EXAMPLE.rglob("*.*") if "__pycache__" not in path.parts)


def project_with_the_example(folder):
    """Copy the project into an empty folder and add the example's files."""
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=NOT_COPIED)
    for name in FILES:
        shutil.copy2(ROOT / name, folder / name)
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True, ignore=NOT_COPIED)


def run(folder, *command, given=None):
    """Run a command of this environment in a folder; its exit code and all that it printed."""
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run([program, *command[1:]], cwd=folder, capture_output=True, text=True, input=given, check=False)
    return done.returncode, done.stdout + done.stderr
