"""What a store in the making has on disk, so that the same command can go on after a kill."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from skelgraph.data.schema import Shard
from skelgraph.errors import UserError

FILE = "journal.json"
WAIT = 10.0  # seconds for the workers of a killed import to leave


class State(BaseModel):
    """Everything written and safe.

    Attributes:
        work: what is being done, to be sure that it is the same.
        clips, hash: how many clips, and their `RollingHash`.
        shards, batches, size: see `ShardFiles`.
        note: what the caller wants back.
    """

    work: dict[str, Any]
    clips: int = 0
    hash: str = "0"
    shards: list[Shard] = []
    batches: int = 0
    size: int = 0
    note: dict[str, Any] = {}


class Journal:
    """The folder of an unfinished store, held by one process at a time.

    Args:
        path: the store's folder; the unfinished one stands beside it.
        work: plain data that tells this work from another one.
        restart: throw an unfinished store away.
    """

    def __init__(self, path: Path, work: Mapping[str, Any], restart: bool = False) -> None:
        self.path, self.restart = path, restart
        self.work: dict[str, Any] = json.loads(json.dumps(work, default=str))
        self.folder = path.parent / f".{path.name}.partial"
        self._lock = FileLock(path.parent / f".{path.name}.lock")

    def open(self) -> State | None:
        """Take the folder; the last saved state, or None where there is nothing to go on with.

        Raises:
            UserError: another process works on it, or it belongs to other work.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # A file system without locks is no reason not to import.
            with suppress(NotImplementedError):
                self._lock.acquire(timeout=WAIT)
        except Timeout:
            raise UserError(f"{self.path}: another process is importing into it; wait for it or end it.") from None
        if self.restart:
            shutil.rmtree(self.folder, ignore_errors=True)
        state = self._read()
        if state is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
        elif state.work != self.work:
            changed = ", ".join(key for key in sorted(self.work) if state.work.get(key) != self.work[key])
            self.release()
            raise UserError(
                f"{self.path}: an unfinished import of something else is there ({changed} differ); finish that one, or "
                "say --restart to throw it away."
            )
        return state

    def save(self, state: State) -> None:
        """Replace the state on disk, all or nothing."""
        temporary = self.folder / f"{FILE}.new"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(state.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / FILE)

    def close(self) -> None:
        """Remove the journal's own files from the folder, which is then the store."""
        for name in (FILE, f"{FILE}.new"):
            (self.folder / name).unlink(missing_ok=True)

    def release(self) -> None:
        """Let another process take the folder."""
        if self._lock.is_locked:
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    def _read(self) -> State | None:
        try:
            return State.model_validate_json((self.folder / FILE).read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError):
            return None
