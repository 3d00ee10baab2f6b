"""Images that runs have on this machine -> when one last used them, and which of them were pulled for one."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from runner import decoding

logger = logging.getLogger(__name__)

_FOLDER = "images"


@dataclass(frozen=True, kw_only=True)
class Note:
    """What is known of an image here. `pulled`: it came for a run, so that it is ours to remove."""

    reference: str
    pulled: bool
    used_at_s: float


def note(cache: Path, reference: str, *, pulled: bool = False) -> None:
    """Note that a run uses the image now; `pulled` where it just came for it. Safe to repeat.

    Nothing fails for a note that cannot be written: the image then looks older than it is, or stays for good.
    """
    known = _read(_path(cache, reference))
    made = Note(
        reference=reference, pulled=pulled or (known is not None and known.pulled), used_at_s=time.time()
    )
    path = _path(cache, reference)
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(msgspec.json.encode(made))
        part.rename(path)
    except OSError as error:
        logger.warning("the use of the image %s is not noted: %s", reference, error)


def notes(cache: Path) -> dict[str, Note]:
    """All of this machine, by the image's reference."""
    found = (_read(path) for path in sorted((cache / _FOLDER).glob("*.json")))
    return {each.reference: each for each in found if each is not None}


def noted(cache: Path, reference: str) -> Note | None:
    """That of one image; None where no run used it."""
    return _read(_path(cache, reference))


def forget(cache: Path, reference: str) -> None:
    """The image is gone. Safe to repeat."""
    _path(cache, reference).unlink(missing_ok=True)


def lock(cache: Path, reference: str) -> Path:
    """Held by whoever pulls or removes the image."""
    return cache / _FOLDER / f"{reference.rpartition(':')[2].replace('/', '-')}.lock"


def _path(cache: Path, reference: str) -> Path:
    return cache / _FOLDER / f"{hashlib.sha256(reference.encode()).hexdigest()[:32]}.json"


def _read(path: Path) -> Note | None:
    try:
        return decoding.from_json(path.read_bytes(), Note)
    except (OSError, msgspec.DecodeError):  # also another user's
        return None
