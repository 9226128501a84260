"""Trouble in the processes that read slides: they are spawned, so it has to reach them through their environment."""

import json
import os
from pathlib import Path

import pytest

import data

# Python imports it when it starts, so before anything of the project.
SITE = """
import json, os, sys, time
if "--multiprocessing-fork" in sys.orig_argv:
    from data.readers.openslide_file import OpenSlideFile
    from data.readers.slide_file import ReadError

    trouble = json.loads(os.environ["SLIDE_TROUBLE"])
    read = OpenSlideFile.read

    def troubled(self, *, x, y, level, width, height):
        if trouble["slide"] == self._path.name and [x, y] in trouble["at"]:
            if trouble["kind"] == "crash":
                os._exit(17)
            if trouble["kind"] == "hang":
                time.sleep(600)
            raise ReadError(f"{self._path}: cannot read at ({x}, {y})")
        return read(self, x=x, y=y, level=level, width=width, height=height)

    OpenSlideFile.read = troubled
"""


def cause_trouble(patch: pytest.MonkeyPatch, folder: Path, *, slide: str, kind: str, at: list[tuple[int, int]]) -> None:
    """Let readers that are started from now on "crash", "hang" or be "unreadable" at the level-0 corners `at`."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    project = Path(data.__file__).parents[1]
    patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (site, project))))
    patch.setenv("SLIDE_TROUBLE", json.dumps({"slide": slide, "kind": kind, "at": at}))
