"""What a host was told to be -> its lasting folder, so that the next start needs no arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from runner import decoding
from runner.agent import token
from runner.errors import UsageError

STATE = Path("/var/lib/pushtrain")
Role = Literal["head", "member", "client"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A host of a fleet. `works` says whether it takes jobs; `labels` by name; `home` is its PUSHTRAIN_HOME.

    `cpus` and `memory_bytes` are what it offers, None for all there is. `cache_quota` is as it was typed. An address
    that was not given is found anew at each start.
    """

    role: Role
    works: bool
    name: str
    address: str
    home: str
    labels: dict[str, str] = field(default_factory=dict)
    gpus: bool = True
    cpus: int | None = None
    memory_bytes: int | None = None
    cache_quota: str = "50%"
    serves_registry: bool = False
    address_given: bool = False


@dataclass(frozen=True, kw_only=True)
class State:
    """The lasting folder of an agent: 0700, on disk."""

    folder: Path

    @property
    def knows(self) -> bool:
        """Whether this machine was started in a fleet, and has not left it."""
        return (self.folder / "settings.json").exists()

    @property
    def token(self) -> Path:
        """The join token; on the head, the one that is given to others."""
        return self.folder / "token"

    @property
    def key(self) -> Path:
        """Munge's key."""
        return self.folder / "munge.key"

    @property
    def htpasswd(self) -> Path:
        """What the registry that the head serves checks its password by."""
        return self.folder / "htpasswd"

    @property
    def logs(self) -> Path:
        """Of all daemons, and of the agent."""
        return self.folder / "log"

    def make(self) -> None:
        """Make the folder with what daemons expect in it. Raises UsageError where it cannot be. Safe to repeat."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for each in (self.folder, self.logs, self.folder / "slurmctld"):
                each.mkdir(exist_ok=True)
                each.chmod(0o700)
        except OSError as error:
            raise UsageError(
                f"{error.filename} cannot be made: {error.strerror}",
                tip="run it with sudo, or choose --state",
            ) from None

    def save(self, settings: Settings) -> None:
        """Remember them, whole or not at all."""
        token.write_secret(self.folder / "settings.json", msgspec.json.encode(settings) + b"\n")

    def load(self) -> Settings:
        """What the last start was told. Raises UsageError where there was none."""
        try:
            return decoding.from_json((self.folder / "settings.json").read_bytes(), Settings)
        except FileNotFoundError:
            raise UsageError(
                f"this machine was in no fleet yet ({self.folder} says nothing)",
                tip="pushtrain agent start --head, or --join HEAD --token-file FILE",
            ) from None
        except PermissionError:
            raise UsageError(f"{self.folder} may not be read", tip="run it with sudo") from None
        except msgspec.DecodeError as error:
            raise UsageError(
                f"{self.folder}/settings.json is damaged: {error}",
                tip="pushtrain agent start --head, or --join HEAD --token-file FILE, as at the first time",
            ) from None

    def forget(self) -> None:
        """After leaving: the next start has to be told again. Safe to repeat."""
        for path in (self.folder / "settings.json", self.token, self.key, self.htpasswd):
            path.unlink(missing_ok=True)
