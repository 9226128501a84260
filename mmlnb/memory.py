"""Peak memory of this process and its children."""

import threading

import psutil

INTERVAL_SECONDS = 0.25


class PeakMemory:
    """Sample the resident memory of the whole process tree while the block runs.

    Pages that processes share are counted once per process, so `gigabytes` is an upper bound.
    """

    def __init__(self) -> None:
        self.gigabytes = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(INTERVAL_SECONDS):
            resident = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    resident += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue  # It ended between the listing and the look.
            self.gigabytes = max(self.gigabytes, resident / 1e9)
