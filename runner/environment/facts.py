"""References of images -> what they are now: their digests, here or in their registry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from runner.environment.client import Refused, ask, is_absent, refusal
from runner.errors import DockerAway, EnvironmentFailed


@dataclass(frozen=True, kw_only=True)
class Base:
    """An image as it is now. `source` is how a Dockerfile names it: by digest, where a registry knows it.

    `content` is equal for equal files: the digest again, or that of the layers of an image that was only made here,
    whose id holds the time at which it was made.
    """

    reference: str
    digest: str
    source: str
    content: str = ""

    @property
    def is_only_here(self) -> bool:
        """Whether no registry is known to have it: its digest is the id that this machine's Docker gave it."""
        return "@" not in self.source


@dataclass(frozen=True, kw_only=True)
class Local:
    """An image that is here. `digest` is that of its registry; None if it was neither pulled nor pushed. `layers` is
    the digest of its files."""

    id: str
    digest: str | None
    layers: str


@dataclass(frozen=True, kw_only=True)
class DockerFacts:
    """What a plan has to know of Docker: the platform of its daemon (`linux/amd64`) and the bases."""

    platform: str
    bases: tuple[Base, ...] = ()

    @property
    def only_here(self) -> tuple[tuple[str, str], ...]:
        """The bases that no registry has, as (reference, id)."""
        return tuple((base.reference, base.digest) for base in self.bases if base.is_only_here)

    def base(self, reference: str) -> Base:
        """The base of that reference. Raises KeyError where it was not looked up."""
        return next(iter(base for base in self.bases if base.reference == reference), None) or _missing(
            reference
        )


def _missing(reference: str) -> Base:
    raise KeyError(reference)


def docker_facts(references: Iterable[str]) -> DockerFacts:
    """Ask the daemon for its platform and for each image; one that is not here is asked of its registry, not
    pulled.

    Takes some 30 ms an image that is here. Raises EngineError where Docker does not answer, EnvironmentFailed
    where an image does not exist or its registry refuses.
    """
    return DockerFacts(platform=platform(), bases=tuple(find_base(reference) for reference in references))


def platform() -> str:
    """That of the daemon, `linux/amd64`. Raises EngineError where it does not answer."""
    return ask("version", "--format", "{{.Server.Os}}/{{.Server.Arch}}")


def base_digest(reference: str) -> str:
    """`sha256:…` of an image: its registry's, or its id if it was only ever made here. Raises as above."""
    return find_base(reference).digest


def find_base(reference: str) -> Base:
    """The image as it is here, else as its registry has it. Raises as `docker_facts`."""
    here = local(reference)
    if here is not None and here.digest is None:
        return Base(reference=reference, digest=here.id, source=reference, content=here.layers)
    digest = here.digest if here is not None else registry_digest(reference)
    if digest is None:
        raise EnvironmentFailed(
            f"there is no image {reference}, neither here nor in its registry",
            tip=f"correct it in environment.base, or try: docker pull {reference}",
        )
    source = f"{repository(reference)}@{digest}"
    return Base(reference=reference, digest=digest, source=source, content=digest)


def local(reference: str) -> Local | None:
    """The image of that name as it is here; None where it is not. Raises as `docker_facts`."""
    try:
        found = json.loads(ask("image", "inspect", reference))[0]
    except Refused as refused:
        if is_absent(refused):
            return None
        raise
    prefix = f"{repository(reference)}@"
    known = (name.removeprefix(prefix) for name in found.get("RepoDigests") or () if name.startswith(prefix))
    layers = hashlib.sha256(json.dumps(found["RootFS"].get("Layers") or ()).encode()).hexdigest()
    return Local(id=found["Id"], digest=next(known, None), layers=layers)


def registry_digest(reference: str) -> str | None:
    """The digest that the registry has for `reference` now; None where there is no such image.

    It is the daemon that asks, with the credentials of Docker's own configuration, so that its mirrors and
    its rules for registries hold. The command line cannot say the digest of an image for many platforms; the
    API can.
    """
    import docker
    import requests

    client = docker.DockerClient(base_url=ask("context", "inspect", "--format", "{{.Endpoints.docker.Host}}"))
    try:
        return str(client.images.get_registry_data(reference).id)
    except docker.errors.NotFound:
        return None
    except docker.errors.APIError as error:
        refused = refusal(f"look-up of {reference}", str(error.explanation or error))
        if isinstance(refused, Refused) and is_absent(refused):
            return None
        raise refused from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise DockerAway(
            f"look-up of {reference}: Docker does not answer any more: {error}",
            tip="sudo systemctl status docker",
        ) from error
    finally:
        client.close()


def repository(reference: str) -> str:
    """The reference as Docker lists it, without tag and digest: `docker.io/library/x:1` is `x`."""
    name = reference.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    name = f"{head}{slash}{tail.partition(':')[0]}"
    for prefix in ("docker.io/library/", "docker.io/", "index.docker.io/", "library/"):
        name = name.removeprefix(prefix)
    return name
