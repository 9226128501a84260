"""What a worker on a Ray cluster does: it keeps the models, and calls one slide after the other."""

import os
import socket
from contextlib import ExitStack
from pathlib import Path

from data.errors import InputError
from data.lease import Leases
from mmlnb.folder_state import SilentState
from mmlnb.inference import FolderRun, share_slides, slides_called_by
from mmlnb.slide_call import SlideCaller
from mmlnb.slide_manifest import SlideOverride


class SlideWorker:
    """Calls slides of a run; its models are loaded once, at the first slide of its process.

    Args:
        run: the run, as it was checked where the command was given; each slide comes with its call.
        mark: file in the output folder by which a worker sees that the folder is the same one.
        folder: where the command was given, which relative paths refer to.
        threads: of torch on a CPU; sums in another order would differ in their last digits.
    """

    def __init__(self, run: FolderRun, *, mark: str, folder: Path, threads: int) -> None:
        self.run = run
        self.mark = mark
        self.folder = folder
        self.threads = threads
        self.open = ExitStack()
        self.caller: tuple[SlideCaller, Leases] | None = None

    def check(self) -> str:
        """Why this worker cannot take part, in one line; empty where it can."""
        host = socket.gethostname()
        if self.folder.is_dir():
            os.chdir(self.folder)
        out = self.run.config.out
        # Listed, since an NFS client may remember for a while that a single file was absent.
        if not out.is_dir() or self.mark not in {path.name for path in out.iterdir()}:
            return f"{out}: another folder on the Ray node {host}; give an --out on a file system that all nodes share"
        for path in (self.run.config.slides, self.run.bundle.folder):
            if not path.exists():
                return f"{path}: not on the Ray node {host}; put it on a file system that all nodes share"
        return ""

    def call(self, name: str, path: Path, override: SlideOverride) -> None:
        """Call the slide `name` at `path`, or wait for the worker that is at it; whatever is wrong becomes its record.

        Raises:
            InputError: this worker cannot take part.
            OSError: the disk is full.
        """
        caller, leases = self._caller()
        share_slides(
            {name: path},
            {name: override},
            caller=caller,
            leases=leases,
            state=SilentState(self.run.config.out, slides=[name]),
        )

    def close(self) -> None:
        """End the reading processes, and give the leases back."""
        self.open.close()
        self.caller = None

    def _caller(self) -> tuple[SlideCaller, Leases]:
        if self.caller is None:
            import torch

            # A process that took over from one that died was not asked to check.
            if trouble := self.check():
                raise InputError(trouble)
            torch.set_num_threads(self.threads)
            self.caller = self.open.enter_context(slides_called_by(self.run, device=self.run.config.device))
        return self.caller
