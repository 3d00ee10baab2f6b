"""One node's files and ranks: source and data fetched, ranks started, outputs and metrics kept while they run."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import removal
from runner.errors import Displaced, EngineError, PushtrainError, StoreError
from runner.host import gang_folder, nofollow
from runner.host.faults import disk_full
from runner.host.gpu_series import GpuStream
from runner.host.launched import LaunchedRank
from runner.host.output import Mask, OutputStream
from runner.host.ownership import Ownership
from runner.host.progress import Progress
from runner.host.reports import Reports
from runner.scan import is_within, scan
from runner.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runner.host.gpu_use import GpuUse
    from runner.host.job import Job
    from runner.host.ranks import Rank, Ranks
    from runner.launch import Process
    from runner.scan import Found

logger = logging.getLogger(__name__)

MIRROR_EVERY_S = 2.0
# The last attempt that had its files here.
ATTEMPT, OLDER = "attempt", "older"


class Node:
    """What a Job says, done on this host. `on_first_line` is called for each rank, from a thread of its own.

    `on_progress` is called by `fetch`, every two seconds, with what is brought: `what`, `bytes`, `total`; with
    `waits` where it is waited for; `on_stored` once other nodes can take its checkpoints, `on_makes` as by
    ContainerRanks. `before` is the same node in the attempt before.
    """

    def __init__(
        self,
        job: Job,
        *,
        on_first_line: Callable[[], None] = lambda: None,
        on_progress: Callable[[dict[str, Any]], None] = lambda _: None,
        on_stored: Callable[[], None] = lambda: None,
        gpu_use: GpuUse | None = None,
        before: Node | None = None,
        on_makes: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self.job, self._on_makes = job, on_makes
        self._on_progress, self._on_stored = on_progress, on_stored
        self._store = open_store(job.store)
        self._ownership = Ownership(job, self._store)
        self._mask = mask = Mask(job.secrets.values())
        self.outputs = {
            int(rank): OutputStream(self._store, key, mask, on_first=on_first_line)
            for rank, key in job.log_keys.items()
        }
        self._datasets: dict[str, str] = {}
        self._ranks: Ranks | None = None
        self._closed = False
        self._joining = threading.Lock()
        self._stopping = threading.Event()
        self._turn = threading.Lock()
        self._mirror: Any = None
        # What an earlier attempt measured is not measured again; what of it the store did not take is sent by this one.
        self._reader: Any = before._reader if before is not None else None
        self._unsent: bytes = before._unsent if before is not None else b""
        self._metrics_offset = 0
        self._keeper: threading.Thread | None = None
        self._gpus = GpuStream(job, store=self._store, use=gpu_use) if gpu_use and job.gpus else None
        self.reports = Reports(job)

    def fetch(self) -> None:
        """Bring image, source and data here. Repeating it brings only what is missing.

        Raises EnvironmentFailed, SourceError, DatasetError, EngineError where this host's disk is full, NotFound where
        it does not reach the run's store.
        """
        job = self.job
        self._ownership.check_store()
        Path(job.scratch).mkdir(parents=True, exist_ok=True)
        with disk_full(Path(job.scratch), Path(job.cache)):
            self._forget_older()
            image = self._bring_image()
            self._bring_source()
            if job.saves_for_others:
                self._store_checkpoints()
            self._bring_data()
            self._lay_out()
            image.result()
            if job.processes:
                self._join()

    def _join(self) -> None:
        """Not where the attempt was closed while its files were brought: nobody would remove what is made then."""
        with self._joining:
            if self._closed:
                raise EngineError("the attempt ended while it was prepared", tip="pushtrain show")
            ranks = self.ranks
        ranks.join()

    def _bring_image(self) -> Future[None]:
        """Begin to: a thread goes on with it, which this process does not wait for where all else fails."""
        brought: Future[None] = Future()
        image = self.job.image
        if image is None or not self.job.processes:
            brought.set_result(None)
            return brought
        from runner.host import images

        progress = Progress("image", self._on_progress)

        def work() -> None:
            try:
                images.bring(image, cache=Path(self.job.cache), progress=progress)
            except Exception as error:  # noqa: BLE001  # a thread's outermost: raised again by whoever waits
                brought.set_exception(error)
            else:
                brought.set_result(None)

        threading.Thread(target=work, daemon=True).start()
        return brought

    def _bring_data(self) -> None:
        from runner import datasets

        for dataset in self.job.datasets:
            progress = Progress(f"data set {dataset.name}", self._on_progress, total=dataset.size_bytes)
            path = datasets.fetch(
                dataset, store=self._store, cache=Path(self.job.cache), progress=progress.add
            )
            self._datasets[dataset.name] = str(path)

    def _lay_out(self) -> None:
        job = self.job
        if job.is_gang:
            gang_folder.make(job)
        if job.resume:
            self._bring_checkpoints()
        if job.image is not None:
            from runner.host.container_settings import give_away

            give_away(job.work)
            if job.is_gang:
                give_away(job.gang_folder)

    def _forget_older(self) -> None:
        """On a fleet a run may have gone on elsewhere since it was here: the store has what it saved there.

        Files of an older attempt would be trained on, sealed, and sent to the store in the place of the newer ones.
        """
        job, stamp = self.job, Path(self.job.scratch) / ATTEMPT
        if not job.host_network:
            return
        latest = {job.attempt, job.attempt - 1} if job.processes else {job.attempt}
        here = stamp.read_text() if stamp.exists() else ""
        if here not in map(str, latest) and job.work.exists():
            logger.info("files of attempt %s are older than what is stored", here or "unknown")
            older = job.work.with_name(OLDER)
            removal.remove(older)
            job.work.rename(older)  # At once, whatever its training left in it.
            removal.remove(older)
        stamp.write_text(str(job.attempt))

    def _bring_source(self) -> None:
        """The working folder, with its places for what the ranks write; after a loss, with what was stored of that."""
        from runner import manifest, source

        job = self.job
        if not job.work.is_dir():
            # Renamed last: a copy that was broken off is never taken for whole.
            half = job.work.with_name("half")
            shutil.rmtree(half, ignore_errors=True)
            source.working_copy(source.unpack(self._store, job.tree, Path(job.cache)), half)
            if job.resume:
                manifest.restore(self._store, job.live_prefix, half)
            half.rename(job.work)
        for folder in (job.outputs, job.logs):
            (job.work / folder).mkdir(parents=True, exist_ok=True)
        for process in job.processes if job.per_rank else ():
            if process.kind != "launcher":
                (job.work / job.outputs / f"rank-{process.rank}").mkdir(parents=True, exist_ok=True)

    @property
    def ranks(self) -> Ranks:
        """Where the processes of this node are started."""
        if self._ranks is None:
            self._ranks = self._factory()
        return self._ranks

    def listen(self, process: Process, *, on_begun: Callable[[], None]) -> LaunchedRank:
        """Listen to a rank that a launcher is about to start."""
        self._keep()
        return LaunchedRank(
            process,
            self.job.gang_folder / "ranks" / str(process.rank),
            self.outputs[process.rank].feed,
            kill=self.ranks.signal,
            on_begun=on_begun,
        )

    def start(self) -> Sequence[Rank]:
        """Start what no launcher starts, and the keeper of what the ranks write. Raises EngineError."""
        self._keep()
        return self.ranks.start_all(self.job.processes, lambda process: self.outputs[process.rank].feed)

    def write_stacks(self, ranks: Mapping[int, int | None]) -> None:
        """Write what each rank is doing to `stacks/rank-R.txt` in its logs, without secrets, to be kept with them.

        Not through links: the logs are the training's to write in, and this process may be root. Raises nothing for
        what cannot be written.
        """
        try:
            texts = self.ranks.stacks(ranks)
            with nofollow.folder(self.job.logs, below=self.job.work) as logs:
                with contextlib.suppress(FileExistsError):
                    os.mkdir("stacks", dir_fd=logs)  # a Path knows no folder descriptors
                with nofollow.folder("stacks", below=logs) as stacks:
                    self._write_stacks(texts, stacks)
        except (OSError, PushtrainError) as error:
            logger.warning("stacks not kept: %s", error)

    def _write_stacks(self, texts: Mapping[int, str], folder: int) -> None:
        for rank, text in texts.items():
            try:
                nofollow.write_anew(f"rank-{rank}.txt", self._mask(text.encode()), within=folder)
            except OSError as error:  # The others are wanted all the same.
                logger.warning("the stacks of rank %d are not kept: %s", rank, error)

    def mirror_now(self) -> None:
        """Send outputs and metrics now. A store that does not answer is tried again by the next call."""
        with self._turn:
            try:
                self._mirror.sync()
                self._send_metrics(check=self._ownership.check)
                self._send_gpus()
            except StoreError as error:
                logger.warning("outputs not stored yet: %s", error)
            except Displaced as error:
                logger.warning("%s", error)
                self._stopping.set()
            except Exception:  # The keeper's outermost loop: what it cannot keep now it tries again.
                logger.exception("outputs not stored yet")

    def seal(self) -> dict[str, Any]:
        """Seal what the ranks wrote: the manifest and what is not kept, as plain data. Safe to repeat.

        Raises StoreError.
        """
        self._stop_keeping()
        with self._turn:
            self._open_mirror()
            # Whoever asks is the run's supervisor; what the store did not take before is judged by now.
            self._send_metrics(check=lambda: None)
            manifest = self._mirror.seal()
            skipped = self._mirror.skipped
            self._send_gpus(last=True)
        return {"manifest": [asdict(file) for file in manifest.files], "skipped": skipped}

    def look(self) -> None:
        """Take note of what goes on, once a second."""
        if self._ranks is not None:
            self._ranks.look()

    def close_ranks(self) -> None:
        """Leave no process or container behind. Safe to repeat."""
        if self._ranks is not None:
            self._ranks.close()
            self._ranks = None

    def close(self) -> None:
        """Stop keeping, leave nothing behind, begin nothing more. Safe to repeat."""
        with self._joining:
            self._closed = True
        self._stop_keeping()
        self.close_ranks()

    def _factory(self) -> Ranks:
        if self.job.image is not None:
            from runner.host.containers import ContainerRanks

            return ContainerRanks(self.job, self._datasets, on_makes=self._on_makes)
        from runner.host.processes import LocalRanks

        return LocalRanks(self.job, self._datasets)

    def _store_checkpoints(self) -> None:
        """All nodes go on from the same: a host that was killed may not have sent what it has last."""
        with self._turn:
            self._open_mirror()
            self._mirror.sync()
        self._on_stored()

    def _bring_checkpoints(self) -> None:
        """Rank 0's checkpoints as they were last stored: where it alone saves them, all ranks go on from them.

        Beside the working folder, since that is the training's, which may have put links there. Where ranks save a
        part each, this node's own parts are among them; what its links within the checkpoints lead to, as files.
        """
        from runner import manifest

        job = self.job
        if job.node_rank == 0 or not job.checkpoints or not job.chief_prefix:
            return
        # The store's first: what is brought must find no name that leads elsewhere.
        manifest.restore(self._store, job.chief_prefix, job.brought, below=job.checkpoints)
        for found in scan(job.work / job.checkpoints, within=job.work).files:
            _copy(found, job.brought / job.checkpoints / found.name, within=job.work)

    def _keep(self) -> None:
        if self._keeper is not None:
            return
        self._open_mirror()
        if self._gpus is not None:
            self._gpus.begin()
        self._stopping.clear()
        self._keeper = threading.Thread(target=self._keep_on, daemon=True)
        self._keeper.start()

    def _keep_on(self) -> None:
        while not self._stopping.wait(MIRROR_EVERY_S):
            self.mirror_now()

    def _stop_keeping(self) -> None:
        self._stopping.set()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None

    def _open_mirror(self) -> None:
        if self._mirror is not None:
            return
        from runner.metrics import Reader
        from runner.sync import Mirror

        job = self.job
        folders = {job.outputs: job.work / job.outputs, job.logs: job.work / job.logs}
        self._mirror = Mirror(
            self._store, job.live_prefix, folders, within=job.work, check=self._ownership.check
        )
        if job.metrics_key is not None:
            self._metrics_offset = len(self._store.tail(job.metrics_key, offset=0))
            self._reader = self._reader or Reader(job.work / job.logs)

    def _send_gpus(self, *, last: bool = False) -> None:
        if self._gpus is not None:
            self._gpus.send(last=last)

    def _send_metrics(self, *, check: Callable[[], None]) -> None:
        if self._reader is None or self.job.metrics_key is None:
            return
        from runner.metrics import encode

        if not is_within(self.job.work / self.job.logs, self.job.work):
            return  # A link to somewhere else has taken its place; the mirror names it.
        points = self._reader.poll()
        self._unsent += encode(points) if points else b""  # Kept where the store does not answer.
        if self._unsent:
            check()
            self._store.append(self.job.metrics_key, self._unsent, offset=self._metrics_offset)
            self._metrics_offset, self._unsent = self._metrics_offset + len(self._unsent), b""


def _copy(found: Found, target: Path, *, within: Path) -> None:
    """Copy a file of the training's, unless the name is taken, or leads out of `within` by now."""
    try:
        file = nofollow.regular(found.path)
    except OSError:
        return
    with os.fdopen(file, "rb") as source:
        if not is_within(os.readlink(f"/proc/self/fd/{file}"), within):  # noqa: PTH115  # as the kernel says it
            return
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as copy:
                shutil.copyfileobj(source, copy)
            if found.executable:
                target.chmod(target.stat().st_mode | 0o111)
