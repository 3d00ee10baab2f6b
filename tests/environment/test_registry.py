"""Digests asked of registries over HTTP, where there is no Docker that would."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.agent.login import merged
from runner.environment.registry import Address, address, digest, is_near
from runner.errors import EnvironmentFailed
from tests.fakes.registry import DIGEST, IDENTITY, PASSWORD, TOKEN, USER, Registry, Wants, serving


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving(Registry()) as made:
        yield made


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of Docker's configuration, without any."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker"


def logged_in(configuration: Path, registry: Registry, **entry: str) -> None:
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    entries = {registry.address: entry or {"auth": auth}}
    (configuration / "config.json").write_text(json.dumps({"auths": entries}))


@pytest.mark.parametrize(
    ("reference", "registry", "name", "wanted"),
    [
        ("python", "docker.io", "library/python", "latest"),
        ("python:3.11-slim", "docker.io", "library/python", "3.11-slim"),
        ("docker.io/library/python:3.11", "docker.io", "library/python", "3.11"),
        ("team/train", "docker.io", "team/train", "latest"),
        ("ghcr.io/team/train:1", "ghcr.io", "team/train", "1"),
        ("localhost/train:1", "localhost", "train", "1"),
        ("gpu1:5000/train", "gpu1:5000", "train", "latest"),
        (f"gpu1:5000/train:1@{DIGEST}", "gpu1:5000", "train", DIGEST),
        ("[fd00::1]:5000/train:1", "[fd00::1]:5000", "train", "1"),
    ],
)
def test_an_image_is_looked_for_where_docker_would(
    reference: str, registry: str, name: str, wanted: str
) -> None:
    assert address(reference) == Address(registry=registry, name=name, wanted=wanted)


@pytest.mark.parametrize(
    "reference", ["", "Train", "a b", "gpu1:5000/../x", "x?y", "x#y", "x@sha256:1", "a@b/c:1", "x:t/../../y"]
)
def test_what_is_no_reference_is_not_asked_for(reference: str) -> None:
    with pytest.raises(EnvironmentFailed, match="names no image"):
        address(reference)


def test_a_registry_without_tls_on_this_machine_is_asked_without(registry: Registry) -> None:
    assert digest(f"{registry.address}/team/train:1") == DIGEST


def test_an_image_that_is_not_there_has_no_digest(registry: Registry) -> None:
    assert digest(f"{registry.address}/team/train:2") is None


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Key and certificate of 127.0.0.1, which nobody trusts yet."""
    file = tmp_path / "certificate.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", "-subj", "/CN=images", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", str(file), "-out", str(tmp_path / "public.pem")]  # fmt: skip
    subprocess.run(argv, check=True, capture_output=True)
    file.write_text(file.read_text() + (tmp_path / "public.pem").read_text())
    return file


def test_one_that_has_tls_is_asked_with_it(
    certificate: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(Registry(wants="basic"), tls=certificate) as registry:
        logged_in(configuration, registry)
        assert digest(f"{registry.address}/team/train:1") == DIGEST


def test_one_whose_tls_is_not_to_be_trusted_is_not_asked_without(certificate: Path) -> None:
    with (
        serving(Registry(), tls=certificate) as registry,
        pytest.raises(EnvironmentFailed, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        digest(f"{registry.address}/team/train:1")
    assert registry.asked == []


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("127.0.0.1:5000", True),
        ("10.77.0.2:5000", True),
        ("192.168.1.1", True),
        ("[fd00::1]:5000", True),
        ("8.8.8.8:5000", False),
        ("[2606:4700::1111]", False),
        ("no-such-host.invalid", False),
    ],
)
def test_only_what_is_near_may_do_without_tls(host: str, near: bool) -> None:
    assert is_near(Address(registry=host, name="x", wanted="1")) is near


def test_one_on_the_internet_is_not_asked_without_tls(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{registry.address}")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(EnvironmentFailed, match="does not answer"):
        digest("8.8.8.8:5000/team/train:1")
    assert [method for method, _, _ in registry.asked] == ["CONNECT"]


def test_a_place_that_a_registry_sends_to_does_not_get_its_password(
    registry: Registry, configuration: Path
) -> None:
    logged_in(configuration, registry)
    with serving(Registry(wants="basic")) as other:
        registry.status, registry.location = 307, f"http://{other.address}"
        with pytest.raises(EnvironmentFailed, match="does not show"):
            digest(f"{registry.address}/team/train:1")
        assert [kind for _, _, kind in other.asked] == [""]
        other.wants = "nothing"
        assert digest(f"{registry.address}/team/train:1") == DIGEST


def test_a_proxy_is_not_asked_for_this_machine(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert digest(f"{registry.address}/team/train:1") == DIGEST


@pytest.mark.parametrize("wants", ["basic", "token"])
def test_the_password_is_that_of_dockers_configuration(
    registry: Registry, configuration: Path, wants: Wants
) -> None:
    registry.wants = wants
    logged_in(configuration, registry)
    assert digest(f"{registry.address}/team/train:1") == DIGEST


def test_a_token_to_get_others_by_is_one_too(registry: Registry, configuration: Path) -> None:
    registry.wants = "token"
    logged_in(configuration, registry, identitytoken=IDENTITY)
    assert digest(f"{registry.address}/team/train:1") == DIGEST


@pytest.mark.parametrize("wants", ["basic", "token"])
def test_without_a_password_it_is_said_where_it_belongs(registry: Registry, wants: Wants) -> None:
    registry.wants = wants
    with pytest.raises(EnvironmentFailed, match="does not show") as caught:
        digest(f"{registry.address}/team/train:1")
    assert "~/.docker/config.json" in caught.value.tip


def test_a_helper_for_passwords_that_went_with_docker_is_done_without(
    registry: Registry, configuration: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry.wants = "token"
    (configuration / "config.json").write_text('{"credsStore": "gone"}')
    with pytest.raises(EnvironmentFailed, match="does not show"):
        digest(f"{registry.address}/team/train:1")
    assert "docker-credential-gone" in caplog.text


def test_a_token_is_not_fetched_from_another_host_without_tls(
    registry: Registry, configuration: Path
) -> None:
    """It might be one that only this machine reaches, and what it says the registry's to read."""
    logged_in(configuration, registry)
    with serving(Registry()) as other:
        registry.wants, registry.realm = "token", f"http://localhost:{other.address.partition(':')[2]}/token"
        with pytest.raises(EnvironmentFailed, match="no TLS"):
            digest(f"{registry.address}/team/train:1")
    assert other.asked == []


@pytest.mark.parametrize("wants", ["basic", "token"])
def test_a_password_goes_over_no_network_without_tls(configuration: Path, wants: Wants) -> None:
    """127.0.0.2 stands for another machine."""
    with serving(Registry(wants=wants), host="127.0.0.2") as registry:
        logged_in(configuration, registry)
        with pytest.raises(EnvironmentFailed, match="has no TLS"):
            digest(f"{registry.address}/team/train:1")
    assert {kind for _, _, kind in registry.asked} == {""}


def test_a_registry_that_is_down_is_told(registry: Registry) -> None:
    registry.status = 503
    with pytest.raises(EnvironmentFailed, match="503"):
        digest(f"{registry.address}/team/train:1")


def test_one_that_does_not_answer_is_told_with_what_to_try() -> None:
    with pytest.raises(EnvironmentFailed, match="does not answer") as caught:
        digest("127.0.0.1:9/team/train:1")
    assert "curl -I https://127.0.0.1:9/v2/" in caught.value.tip


def test_what_is_no_digest_is_none(registry: Registry) -> None:
    """It would stand in a Dockerfile."""
    registry.images = {"team/train:1": "sha256:x AS y"}
    with pytest.raises(EnvironmentFailed, match="does not say the digest"):
        digest(f"{registry.address}/team/train:1")


def test_no_password_is_told_to_anybody(
    registry: Registry, configuration: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry.wants = "token"
    logged_in(configuration, registry)
    caplog.set_level("DEBUG", logger="runner")
    digest(f"{registry.address}/team/train:1")
    assert PASSWORD not in caplog.text
    assert TOKEN not in caplog.text
    assert [kind for _, _, kind in registry.asked] == ["", "Basic", "Bearer"]


def test_the_fleets_own_registry_is_shown_its_password_without_tls(configuration: Path) -> None:
    """127.0.0.2 stands for the head."""
    with serving(Registry(wants="basic"), host="127.0.0.2") as registry:
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        told = merged({}, registry=registry.address, auth=auth)
        (configuration / "config.json").write_text(json.dumps(told))
        assert digest(f"{registry.address}/team/train:1") == DIGEST
        registry.wants = "token"
        with pytest.raises(EnvironmentFailed, match="has no TLS"):
            digest(f"{registry.address}/team/train:1")
