"""Names of hosts -> machines of Amazon EC2.

A machine is found by its tags alone, so a head that lost its disk still finds those it started. The token lies in S3
for each launch anew, encrypted at rest, and the user data names it by a URL; the machine removes it before it is a host
(ec2_token.py), and the head when it stops the machine. A role that may read it would be open to every training, too.
"""

from __future__ import annotations

import hashlib
import logging
import shlex
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from runner import decoding
from runner.errors import EngineError
from runner.providers import Machine, Place, Started
from runner.providers.ec2_token import Tokens, Urls, fetching
from runner.providers.settings import Ec2, Elastic

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

CLUSTER, HOST = "pushtrain:cluster", "pushtrain:host"
# Where another type or zone may have what this one has not:
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
_ELSEWHERE = frozenset(
    {
        "InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientCapacity", "Unsupported",
        "InstanceLimitExceeded", "VcpuLimitExceeded", "MaxSpotInstanceCountExceeded", "SpotMaxPriceTooLow",
        "InsufficientFreeAddressesInSubnet",
    }
)  # fmt: skip
_STALE = frozenset({"IdempotentInstanceTerminated", "IdempotentParameterMismatch"})
_ALIVE = ("pending", "running")
_CONNECT_S, _READ_S = 10, 60
# A start is some seconds of waiting; EC2 takes few at once, and throttles the others.
_AT_ONCE = 4
_MOST_URL_S = 12 * 3600
_GIB = 2**30
_JOINED = "/var/lib/pushtrain-token"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One start of a host, noted before it is asked for: whoever repeats it asks for the same, and gets the same."""

    nonce: str
    urls: Urls
    until_s: float


@dataclass(frozen=True, kw_only=True)
class Ec2Machines:
    """Implements Provider. Not for use by several processes at once: the caller holds a lock."""

    settings: Elastic
    ec2: Ec2
    place: Place

    @cached_property
    def client(self) -> EC2Client:
        """EC2; throttled requests are repeated by the SDK, with growing pauses."""
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 8},
            connect_timeout=_CONNECT_S,
            read_timeout=_READ_S,
        )
        return boto3.client("ec2", config=config, region_name=self.ec2.region, endpoint_url=self.ec2.endpoint)

    @cached_property
    def s3(self) -> S3Client:
        """Where the token is put."""
        config = Config(signature_version="s3v4", connect_timeout=_CONNECT_S, read_timeout=_READ_S)
        return boto3.client("s3", config=config, region_name=self.ec2.region, endpoint_url=self.ec2.endpoint)

    def start(self, names: Sequence[str]) -> Started:
        """What has no machine is asked for, type by type and zone by zone. Raises EngineError."""
        there = {machine.name: machine for machine in self.running()}
        wanted = [name for name in names if name not in there]
        # Both are made before threads share them.
        _ = self.client, self.s3
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            made = dict(zip(wanted, threads.map(self._start, wanted), strict=True))
        new = tuple(each for each in made.values() if isinstance(each, Machine))
        return Started(
            machines=(*(there[name] for name in names if name in there), *new),
            refused={name: said for name, said in made.items() if isinstance(said, str)},
        )

    def stop(self, names: Sequence[str]) -> None:
        """Terminates them, and of a name all there are. Raises EngineError."""
        wanted = set(names)
        doomed = [machine.id for machine in self.running() if machine.name in wanted]
        if doomed:
            logger.info("terminating %s", ", ".join(doomed))
            with _calling("terminating machines"):
                self.client.terminate_instances(InstanceIds=doomed)
        for name in sorted(wanted):
            self._forget(name)

    def running(self) -> tuple[Machine, ...]:
        """All machines with this fleet's tag. Raises EngineError."""
        chosen = [
            {"Name": f"tag:{CLUSTER}", "Values": [self.place.cluster]},
            {"Name": "instance-state-name", "Values": [*_ALIVE]},
        ]
        with _calling("listing machines"):
            pages = self.client.get_paginator("describe_instances").paginate(Filters=chosen)  # type: ignore[arg-type]  # plain dicts
            found = [each for page in pages for group in page["Reservations"] for each in group["Instances"]]
        return tuple(_machine(each) for each in found)

    def _start(self, name: str) -> Machine | str:
        """The machine, or why there is none."""
        kind = self.settings.kind_of(name)
        if kind is None:
            return "elastic.yml has no such host"
        reasons: list[str] = []
        for machine_type in kind.types:
            for subnet in self.ec2.subnets:
                try:
                    return self._launched(name, machine_type, subnet)
                except ClientError as error:
                    code, said = _answer(error)
                    reasons.append(f"{machine_type} in {subnet}: {code}")
                    logger.warning("%s: %s in %s: %s: %s", name, machine_type, subnet, code, said)
                    if code not in _ELSEWHERE:
                        return f"{code}: {said}"
                except BotoCoreError as error:
                    return f"{type(error).__name__}: {error}"
                except EngineError as error:
                    return f"{error}; {error.tip}"
        return "EC2 has none: " + "; ".join(reasons)

    def _launched(self, name: str, machine_type: str, subnet: str) -> Machine:
        for fresh in (False, True):
            launch = self._launch(name, fresh=fresh)
            try:
                answer = self.client.run_instances(**self._request(name, launch, machine_type, subnet))
            except ClientError as error:
                if fresh or _answer(error)[0] not in _STALE:
                    raise
                continue
            instance = answer["Instances"][0]
            if instance["State"]["Name"] in _ALIVE:
                logger.info("%s is %s, a %s in %s", name, instance["InstanceId"], machine_type, subnet)
                return _machine(instance)
        raise ClientError(
            {"Error": {"Code": "InsufficientCapacity", "Message": "it ended at once"}}, "RunInstances"
        )

    def _launch(self, name: str, *, fresh: bool) -> Launch:
        """The start that was noted and may have been asked for already, or a new one that is noted now."""
        noted = self._noted(name)
        if not fresh and noted and noted.until_s > time.time() + self.settings.start_within / 2:
            return noted
        self._forget(name)
        seconds = min(int(self.settings.start_within), _MOST_URL_S)
        nonce, until_s = uuid.uuid4().hex, time.time() + seconds
        urls = self._tokens.put(nonce, self._token(), seconds=seconds)
        made = Launch(nonce=nonce, urls=urls, until_s=until_s)
        try:
            _write(self._note(name), made)
        except OSError as error:
            self._tokens.remove(nonce)
            raise EngineError(
                f"the start cannot be noted on the head: {error}", tip="make room on its disk"
            ) from error
        return made

    def _noted(self, name: str) -> Launch | None:
        try:
            return decoding.from_json(self._note(name).read_bytes(), Launch)
        except (FileNotFoundError, msgspec.DecodeError):  # the latter of an older version
            return None

    def _forget(self, name: str) -> None:
        """The start that was noted, and its token. Raises EngineError."""
        if noted := self._noted(name):
            self._tokens.remove(noted.nonce)
        self._note(name).unlink(missing_ok=True)

    @property
    def _tokens(self) -> Tokens:
        return Tokens(s3=self.s3, folder=self.ec2.token, cluster=self.place.cluster)

    def _token(self) -> bytes:
        try:
            return self.place.token.read_bytes()
        except OSError as error:
            raise EngineError(
                f"the join token cannot be read: {error}", tip="pushtrain agent start --head"
            ) from error

    def _request(self, name: str, launch: Launch, machine_type: str, subnet: str) -> dict[str, Any]:
        ec2 = self.ec2
        words = (self.place.cluster, name, launch.nonce, machine_type, subnet)
        tags = [{"Key": key, "Value": value} for key, value in self._tags(name).items()]
        disk = {"VolumeSize": max(ec2.disk // _GIB, 1), "VolumeType": "gp3", "Encrypted": True}
        further: dict[str, Any] = {"IamInstanceProfile": {"Name": ec2.profile}} if ec2.profile else {}
        further |= {"KeyName": ec2.key} if ec2.key else {}
        further |= {"InstanceMarketOptions": {"MarketType": "spot"}} if ec2.spot else {}
        return further | {
            "ClientToken": hashlib.sha256("\0".join(words).encode()).hexdigest(),
            "ImageId": ec2.image,
            "InstanceType": machine_type,
            "SubnetId": subnet,
            "SecurityGroupIds": list(ec2.security_groups),
            "MinCount": 1,
            "MaxCount": 1,
            # What the machine's own timer does, is the end of it.
            "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            "BlockDeviceMappings": [
                {"DeviceName": ec2.root_device, "Ebs": disk | {"DeleteOnTermination": True}}
            ],
            "TagSpecifications": [{"ResourceType": each, "Tags": tags} for each in ("instance", "volume")],
            "UserData": user_data(name, place=self.place, settings=self.settings, urls=launch.urls),
        }

    def _tags(self, name: str) -> dict[str, str]:
        return {"Name": f"{self.place.cluster} {name}", CLUSTER: self.place.cluster, HOST: name}

    def _note(self, name: str) -> Path:
        return self.place.state / "ec2" / f"{name}.json"


def make(settings: Elastic, place: Place) -> Ec2Machines:
    """The provider of these settings."""
    assert settings.ec2 is not None
    return Ec2Machines(settings=settings, ec2=settings.ec2, place=place)


def user_data(name: str, *, place: Place, settings: Elastic, urls: Urls) -> str:
    """What cloud-init runs as root at every boot. The machine's end is arranged first, before anything can fail."""
    kind = settings.kind_of(name)
    labels = [f"--label={key}={value}" for key, value in (kind.labels if kind else {}).items()]
    deadman = shlex.join(["pushtrain", "agent", "power", "deadman", name, "--alone", f"{settings.alone:g}s"])
    start = shlex.join(
        [
            "pushtrain",
            "agent",
            "start",
            "--join",
            place.address,
            "--token-file",
            _JOINED,
            "--name",
            name,
            *labels,
        ]
    )
    return (
        "#!/bin/sh\n"
        f"shutdown -P +{max(1, round(settings.alone / 60))}\n"
        'cp "$0" /var/lib/cloud/scripts/per-boot/pushtrain && chmod 700 /var/lib/cloud/scripts/per-boot/pushtrain\n'
        f"{deadman}\n"
        f"{fetching(urls, to=_JOINED)}"
        f"exec {start}\n"
    )


def _write(path: Path, launch: Launch) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_bytes(msgspec.json.encode(launch))
    part.rename(path)


def _machine(instance: Any) -> Machine:
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", ())}
    return Machine(
        name=tags.get(HOST, ""), address=instance.get("PrivateIpAddress") or "", id=instance["InstanceId"]
    )


def _answer(error: ClientError) -> tuple[str, str]:
    said = error.response.get("Error", {})
    return said.get("Code", "?"), said.get("Message", "")[:200]


@contextmanager
def _calling(doing: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code, said = _answer(error)
        raise EngineError(
            f"{doing}: EC2 says {code}: {said}", tip="see the rights of this head's role"
        ) from error
    except BotoCoreError as error:
        raise EngineError(f"{doing}: {error}", tip="set AWS_PROFILE, or give this head a role") from error
