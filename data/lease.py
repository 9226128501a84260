"""Leases on named work in a shared folder: one live owner at a time, and a dead one is succeeded.

A lease is a folder `<digest of the name>.lease` with one file in it, the record of its owner. The file's name is
`<token>.<beats>`: a token that is drawn anew for each lease, and a number that the owner raises by renaming the file
every few seconds. Three steps, each of them atomic in one machine's folders and on NFS alike (no `flock`), carry it:

- Taking: the record is written in a folder of its own, which is then renamed to the lease. That fails while the lease
  has a file in it, so of several contenders one wins, and a record is never seen half written.
- Succeeding a dead owner: its file is removed under the very name it was watched under, and then the lease is taken. An
  owner that beat at the last moment has another file name and keeps the lease, even if the contender was shown an old
  listing by an NFS cache. A contender that comes late removes nothing, since no token is ever used twice.
- Beating and releasing concern the owner's own file name too. An owner that slept, was succeeded and wakes finds no
  such file: it learns of its loss and can neither bring its record back nor disturb a successor.

An owner is dead when its process is known to be gone (same machine), or when its file kept its name for `stale_seconds`
on the watching contender's monotonic clock; the clocks of two machines are never compared. A process that is killed in
the moment of taking leaves a folder `<token>.taking`, which nobody heeds.
"""

import errno
import json
import os
import secrets
import shutil
import socket
import sys
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import psutil

from data.atomic import digest

# Another is there, or (NFS, Windows) a process that is just reading keeps a removed file for a moment.
BUSY = {errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY} | ({errno.EACCES} if os.name == "nt" else set())


@dataclass(frozen=True)
class Owner:
    """Process that holds a lease.

    Attributes:
        host: name of its machine, for people.
        machine: what tells machines, restarts of one, containers and users apart; only where it is equal can a process
            number be looked up.
        pid: process number.
        started: see the function of that name.
    """

    host: str
    machine: str
    pid: int
    started: str | None

    @classmethod
    def this_process(cls) -> Self:
        """Return the record of the calling process."""
        return cls(host=socket.gethostname(), machine=_machine(), pid=os.getpid(), started=started(os.getpid()))

    @classmethod
    def read(cls, record: Path) -> Self | None:
        """Return the owner named in the file `record`; None when it cannot be read."""
        try:
            return cls(**json.loads(record.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # beaten or released since it was listed; damaged: its beats decide
            return None

    def is_gone(self, *, seen_by: Self) -> bool:
        """Whether the process is known to have ended; False where `seen_by` cannot tell."""
        if self.machine != seen_by.machine or None in (self.started, seen_by.started):
            return False
        return started(self.pid) != self.started


def started(pid: int) -> str | None:
    """Return when a living process started, on a scale that setting the clock does not move; None if there is none."""
    if sys.platform == "linux":
        # psutil adds the time of the boot, which differs between two processes when the clock was set in between.
        try:
            status = Path(f"/proc/{pid}/stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, *fields = status.rpartition(b")")[2].split()  # the command before ")" may hold anything
        return None if state in (b"Z", b"X") else fields[18].decode()
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except psutil.NoSuchProcess:
        return None


def _machine() -> str:
    parts = [socket.gethostname(), str(os.getuid()) if hasattr(os, "getuid") else ""]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    except OSError:  # not Linux
        parts.append(f"{uuid.getnode():x}")
    return " ".join(parts)


@dataclass(frozen=True)
class _Watch:
    """What a contender saw in a lease, when it looked last, and for how many seconds it had not changed by then."""

    files: frozenset[str]
    looked: float
    silent: float


class Lease:
    """A lease that was taken; see `Leases.take`. As a context manager it is released at the end."""

    def __init__(self, record: Path) -> None:
        self._record = record
        self.over = False  # known, without asking the disk, to be lost or given back
        self._lock = threading.Lock()  # the heartbeat and the caller rename the same file

    def held(self) -> bool:
        """Beat once, and return whether the lease is still the caller's: to be asked before results are committed.

        After True nobody who goes by the beats can succeed the caller for the next `stale_seconds`.

        Raises:
            OSError: the folder can neither be changed nor listed.
        """
        with self._lock:
            if self.over:
                return False
            token, _, beats = self._record.name.partition(".")
            following = self._record.with_name(f"{token}.{int(beats) + 1}")
            try:
                self._record.rename(following)
            except FileNotFoundError:
                # Removed by a successor. Or NFS repeated a request that had been carried out, its answer being lost.
                if following.name not in _files(following.parent):
                    self.over = True
                    return False
            except OSError:  # a beat that fails, as on a full disk, is not a loss: the record decides
                return self._record.name in _files(self._record.parent)
            self._record = following
            return True

    def release(self) -> None:
        """Give the lease back; does nothing where it was lost or given back before."""
        with self._lock:
            if not self.over:
                self.over = True
                _remove(self._record)
                _remove_empty(self._record.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


class Leases:
    """Leases of one process in a folder that it shares with others; as a context manager it is closed at the end.

    Args:
        folder: where the leases lie; for nothing else. Made when it is missing.
        beat_seconds: time between two signs of life, given by a thread in the background.
        stale_seconds: silence after which an owner counts as dead; the same in all processes.
    """

    def __init__(self, folder: Path, *, beat_seconds: float = 5.0, stale_seconds: float = 60.0) -> None:
        if stale_seconds < 3 * beat_seconds:
            raise ValueError(f"stale_seconds {stale_seconds} must be at least three times beat_seconds {beat_seconds}")
        self._folder = folder
        self._beat_seconds = beat_seconds
        self._stale_seconds = stale_seconds
        self._me = Owner.this_process()
        self._watched: dict[Path, _Watch] = {}
        self._taken: list[Lease] = []
        self._stop = threading.Event()
        self._heart: threading.Thread | None = None

    def take(self, name: str) -> Lease | None:
        """Take the lease on `name` (any text, such as a relative path); None while another live owner has it.

        Returns at once. A contender calls it again and again, since silence is counted between its calls. One interval
        counts for half of `stale_seconds` at most: a contender that was suspended, or waited for a server, together
        with the owner must not find it dead before that has had the time to beat.

        What was to be done may have been done by the last owner a moment ago: look again after taking the lease. On NFS
        list the folder to look, since the absence of a single file may be remembered by the client.

        Raises:
            OSError: the folder cannot be read or written.
        """
        place = self._place(name)
        files = _files(place)
        if files and not self._dead(place, files):
            return None
        for file in files:
            _remove(place / file)
        lease = self._occupy(place)
        if lease is not None:
            self._watched.pop(place, None)
            self._taken = [*(other for other in self._taken if not other.over), lease]
            if self._heart is None:
                self._stop = threading.Event()
                self._heart = threading.Thread(target=self._keep_beating, args=(self._stop,), daemon=True)
                self._heart.start()
        return lease

    def holder(self, name: str) -> str | None:
        """Return host and process number of who has the lease on `name`, dead or alive; None when it is free."""
        place = self._place(name)
        owners = [Owner.read(place / file) for file in _files(place)]
        return next((f"{owner.host} {owner.pid}" if owner else "unknown" for owner in owners), None)

    def close(self) -> None:
        """Release all leases and end the heartbeat."""
        self._stop.set()
        if self._heart is not None:
            self._heart.join()
            self._heart = None
        for lease in self._taken:
            lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _place(self, name: str) -> Path:
        # A digest has no separators, no length limit, and cannot be the parent of another lease.
        return self._folder / f"{digest(name)}.lease"

    def _dead(self, place: Path, files: frozenset[str]) -> bool:
        now = time.monotonic()
        last = self._watched.get(place)
        silent = 0.0
        if last is not None and last.files == files:
            silent = last.silent + min(now - last.looked, self._stale_seconds / 2)
        self._watched[place] = _Watch(files, looked=now, silent=silent)
        if silent >= self._stale_seconds:
            return True
        owners = [Owner.read(place / file) for file in files]
        return all(owner is not None and owner.is_gone(seen_by=self._me) for owner in owners)

    def _occupy(self, place: Path) -> Lease | None:
        token = secrets.token_hex(8)
        prepared = self._folder / f"{token}.taking"
        prepared.mkdir(parents=True)
        record = place / f"{token}.0"
        try:
            (prepared / record.name).write_text(json.dumps(asdict(self._me)), encoding="utf-8")
            _remove_empty(place)  # Windows does not rename onto an empty folder
            prepared.rename(place)
        except OSError as error:
            # On NFS an error may be the answer to a repeated request that had been carried out: the record decides.
            if record.name not in _files(place):
                if error.errno in BUSY:
                    return None
                raise
        finally:
            shutil.rmtree(prepared, ignore_errors=True)
        return Lease(record)

    def _keep_beating(self, stop: threading.Event) -> None:
        while not stop.wait(self._beat_seconds):
            for lease in self._taken:
                with suppress(OSError):  # a folder that cannot be reached now may be so at the next beat
                    lease.held()


def _files(place: Path) -> frozenset[str]:
    # Listed rather than asked one by one: to open a folder makes an NFS client ask its server.
    try:
        return frozenset(path.name for path in place.iterdir())
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):  # ESTALE: on NFS, removed while it was listed
            raise
        return frozenset()


def _remove(record: Path) -> None:
    try:
        record.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in BUSY:  # what stays is tried again by the next contender
            raise


def _remove_empty(place: Path) -> None:
    # It has a new owner, or was removed by another; and an empty one is as free as none.
    with suppress(OSError):
        place.rmdir()
