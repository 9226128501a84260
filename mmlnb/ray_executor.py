"""The slides of a folder on a Ray cluster: longest first, and taken up again where a worker or its node dies."""

import os
import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data.errors import InputError
from mmlnb.config import InferConfig
from mmlnb.folder_state import FolderState
from mmlnb.inference import FolderRun, finish_folder, open_folder, stopping_on_a_full_disk
from mmlnb.ray_worker import SlideWorker
from mmlnb.slide_manifest import SlideOverride
from mmlnb.slide_record import SlideRecord, find_record, write_record

# Deaths of workers over one slide after which it is failed: it may be what kills them.
ATTEMPTS = 3
POLL_SECONDS = 2.0
CLOSE_SECONDS = 10.0
# Only the run and the names of slides go through Ray; pixels and results do not.
STORE_BYTES = 100 * 2**20


def infer_on_ray(config: InferConfig) -> int:
    """Call the slides with workers on a Ray cluster, each with models of its own, into one folder that all see.

    Raises:
        InputError: as `mmlnb.inference.infer`; Ray is not installed, no cluster answers, or a node sees other folders.
    """
    ray = find_ray()
    run = open_folder(config)
    state = run.state()
    with _connected(ray, config), _mark(config.out) as mark, stopping_on_a_full_disk(run, state), state:
        crew = Crew(ray, run, mark=mark)
        try:
            crew.work(state)
        finally:
            crew.close()
    return finish_folder(run, state)


def find_ray() -> Any:
    """The package Ray, told to send nothing anywhere.

    Raises:
        InputError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError("--executor ray: Ray is not installed; pip install 'mmlnb[ray]'") from error
    return ray


def longest_first(paths: dict[str, Path]) -> list[str]:
    """Names of the slides, the largest files first: one that begins late would keep all others waiting."""
    return sorted(paths, key=lambda name: (-_bytes(paths[name]), name))


class Crew:
    """The workers of a run, and who is at what."""

    def __init__(self, ray: Any, run: FolderRun, *, mark: str) -> None:
        import torch

        self.ray = ray
        self.run = run
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = sum(int(node.get("GPU", 0)) for node in nodes) if run.config.device in ("auto", "cuda") else 0
        cores = max(1, min(run.config.workers, *(int(node.get("CPU", 0)) for node in nodes)))
        needs = {"num_gpus": 1, "num_cpus": 1} if gpus else {"num_cpus": cores}
        count = gpus or sum(int(node.get("CPU", 0)) // cores for node in nodes)
        # A worker that dies is started again, wherever there is room, and its slide is begun again by it.
        kind = ray.remote(**needs, max_restarts=-1, max_task_retries=ATTEMPTS - 1)(SlideWorker)
        # What a worker is made from must be small: Ray keeps it with the worker only then, for when it starts again.
        small = replace(run, paths={}, overrides={})
        settings = {"mark": mark, "folder": Path.cwd(), "threads": torch.get_num_threads()}
        self.workers = [kind.remote(small, **settings) for _ in range(max(1, min(count, len(run.paths))))]

    def work(self, state: FolderState) -> None:
        """Call all slides.

        Raises:
            InputError: a node does not see the folders, or all workers are gone.
            OSError: the disk is full.
        """
        # Only a worker that has answered gets a slide: the cluster may have no room for some of them.
        starting = {worker.check.remote(): worker for worker in self.workers}
        busy: dict[Any, tuple[Any, str]] = {}
        queue = deque(longest_first(self.run.paths))
        left = dict.fromkeys(queue)
        idle: list[Any] = []
        with tqdm(total=len(left), desc="Slides", unit="slide") as bar:
            while left:
                if not starting and not busy:
                    raise InputError(f"{self.run.config.out}: no worker is left on the Ray cluster; look at its logs")
                ended, _ = self.ray.wait([*starting, *busy], num_returns=1, timeout=POLL_SECONDS)
                for task in ended:
                    if task in starting:
                        worker = starting.pop(task)
                        if self._fit(task):
                            idle.append(worker)
                        continue
                    worker, ended_slide = busy.pop(task)
                    idle.append(worker)
                    self._end(task, ended_slide)
                    if ended_slide in left:
                        del left[ended_slide]
                        bar.update()
                        self._tell(ended_slide)
                while idle and (name := self._next(queue, left, busy)) is not None:
                    worker = idle.pop()
                    bar.set_postfix_str(name)
                    override = self.run.overrides.get(name, SlideOverride())
                    busy[worker.call.remote(name, self.run.paths[name], override)] = worker, name
                if not busy and left:
                    bar.set_postfix_str("waiting for workers")
                state.update({name: f"worker {self.workers.index(worker)}" for worker, name in busy.values()})

    def close(self) -> None:
        """End the workers."""
        with suppress(self.ray.exceptions.RayError):
            ends = [worker.close.remote() for worker in self.workers]
            self.ray.wait(ends, num_returns=len(ends), timeout=CLOSE_SECONDS)
        for worker in self.workers:
            self.ray.kill(worker)

    def _fit(self, task: Any) -> bool:
        try:
            trouble = self.ray.get(task)
        except self.ray.exceptions.RayActorError:
            return False
        if trouble:
            raise InputError(trouble)
        return True

    def _end(self, task: Any, name: str) -> None:
        """Look at how the work on a slide ended, which is its record's matter unless the worker died over it."""
        errors = self.ray.exceptions
        try:
            self.ray.get(task)
        except errors.RayTaskError as error:
            raise error.cause from error
        except (errors.RayActorError, errors.OutOfMemoryError, errors.WorkerCrashedError):
            if find_record(self.run.config.out, name) is None:
                reason = f"{self.run.paths[name]}: {ATTEMPTS} workers died over it; look at Ray's logs and their memory"
                # Without the stamp of its file, so that the next run tries it again.
                write_record(self.run.config.out, SlideRecord(slide=name, status="failed", reason=reason))

    def _next(self, queue: deque[str], left: dict[str, None], busy: dict[Any, tuple[Any, str]]) -> str | None:
        """The next slide; at the end one that another is at, in case its node is gone: the lease tells them apart."""
        if queue:
            return queue.popleft()
        at_work = [name for _, name in busy.values()]
        return next((name for name in left if at_work.count(name) < 2), None)

    def _tell(self, name: str) -> None:
        record = find_record(self.run.config.out, name)
        if record is not None and record.status != "ok":
            tqdm.write(f"{name}: {record.status}: {record.reason}")


@contextmanager
def _connected(ray: Any, config: InferConfig) -> Iterator[None]:
    """Be a driver of the cluster; of one that was connected to before, stay so."""
    if ray.is_initialized():
        yield
        return
    address = config.ray_address or os.environ.get("RAY_ADDRESS", "local")
    own = {"include_dashboard": False, "object_store_memory": STORE_BYTES} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"--ray-address {address}: no Ray cluster answers there ({reason}); start one with `ray start --head`"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _mark(out: Path) -> Iterator[str]:
    """A file in `out` that is there while the run is."""
    path = out / f".ray-{secrets.token_hex(8)}"
    path.touch()
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)


def _bytes(path: Path) -> int:
    """Size of a slide: of its file, and of the folder of the same name that some formats keep beside it."""
    beside = path.with_suffix("")
    files = [path, *(beside.iterdir() if beside != path and beside.is_dir() else [])]
    with suppress(OSError):
        return sum(file.stat().st_size for file in files)
    return 0
