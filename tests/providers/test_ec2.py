"""Machines of EC2, over HTTP against a stand-in."""

from __future__ import annotations

import base64
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from runner.errors import EngineError
from runner.providers import Place, Provider, provider, settings
from tests.fixtures.s3 import CREDENTIALS

SERVER = Path(__file__).with_name("ec2_server.py")
REGION = "eu-central-1"
ELASTIC = """
start_within: 10m
alone: 15m
hosts:
  a: {{cpus: 8, memory: 30GiB, max_hosts: 3, labels: {{pool: cloud}}, types: [p4d.24xlarge, g5.xlarge]}}
ec2:
  region: eu-central-1
  image: {image}
  subnets: [{subnets}]
  security_groups: [{group}]
  token: s3://fleet/join
  endpoint: {endpoint}
"""


@dataclass(kw_only=True)
class Cloud:
    """The stand-in, and an account in it that has what elastic.yml names."""

    endpoint: str
    text: str
    subnets: list[str]
    client: Any
    state: Path
    cluster: str

    def provider(self, *, cluster: str | None = None, state: Path | None = None) -> Provider:
        place = Place(
            cluster=cluster or self.cluster, head="h0", address="10.0.0.9", token=self.state / "token",
            state=state or self.state,
        )  # fmt: skip
        return provider(settings.parse(self.text), place)

    def faults(self, query: str = "") -> list[str]:
        """Returns for which types and zones machines were asked for until now."""
        with urllib.request.urlopen(f"{self.endpoint}/_faults?{query}") as answer:
            return answer.read().decode().split()  # type: ignore[no-any-return]  # bytes of a response

    def instances(self) -> list[Any]:
        chosen = [{"Name": "instance-state-name", "Values": ["pending", "running"]},
                  {"Name": "tag:pushtrain:cluster", "Values": [self.cluster]}]  # fmt: skip
        groups = self.client.describe_instances(Filters=chosen)["Reservations"]
        return [each for group in groups for each in group["Instances"]]

    def user_data(self, id: str) -> str:
        told = self.client.describe_instance_attribute(InstanceId=id, Attribute="userData")
        return base64.b64decode(told["UserData"]["Value"]).decode()

    def url(self, id: str) -> str:
        """Returns where the machine reads the token."""
        return next(w for w in shlex.split(self.user_data(id), comments=True) if w.startswith("http"))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, str(SERVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


@pytest.fixture
def cloud(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("ec2", region_name=REGION, endpoint_url=endpoint)
    boto3.client("s3", region_name="us-east-1", endpoint_url=endpoint).create_bucket(Bucket="fleet")
    subnets = [each["SubnetId"] for each in client.describe_subnets()["Subnets"]][:2]
    (tmp_path / "token").write_text("pushtrain1.secret\n")
    text = ELASTIC.format(
        image=client.describe_images()["Images"][0]["ImageId"],
        subnets=", ".join(subnets),
        group=client.describe_security_groups()["SecurityGroups"][0]["GroupId"],
        endpoint=endpoint,
    )
    made = Cloud(
        endpoint=endpoint,
        text=text,
        subnets=subnets,
        client=client,
        state=tmp_path,
        cluster=f"c{tmp_path.name}",
    )
    made.faults()
    return made


def test_a_machine_is_tagged_tied_to_its_own_end_and_tells_nobody_else_the_token(cloud: Cloud) -> None:
    (machine,) = cloud.provider().start(["a-1"]).machines
    assert machine.name == "a-1"
    (instance,) = cloud.instances()
    assert machine.address == instance["PrivateIpAddress"]
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    told = cloud.client.describe_instance_attribute(
        InstanceId=machine.id, Attribute="instanceInitiatedShutdownBehavior"
    )
    assert told["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    text = cloud.user_data(machine.id)
    lines = text.splitlines()
    assert lines[1] == "shutdown -P +15", "its end is arranged before anything can fail"
    assert "pushtrain agent power deadman a-1 --alone 900s" in lines
    assert lines[-1].endswith("--name a-1 --label=pool=cloud")
    assert "secret" not in text


def test_the_machine_gets_the_token_by_a_url_that_is_signed_for_minutes(cloud: Cloud) -> None:
    (machine,) = cloud.provider().start(["a-1"]).machines
    url = cloud.url(machine.id)
    assert "X-Amz-Expires=600" in url
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"pushtrain1.secret\n"


def test_a_machine_is_a_host_only_when_its_user_data_opens_nothing_any_more(cloud: Cloud) -> None:
    one, other = cloud.provider().start(["a-1", "a-2"]).machines
    joined = cloud.state / "joined"
    text = cloud.user_data(one.id).replace("/var/lib/pushtrain-token", str(joined))
    script, _, start = text[text.index("umask") :].rpartition("exec ")
    assert start.startswith("pushtrain agent start --join")
    for _ in ("the first boot", "a reboot"):
        subprocess.run(["sh", "-ec", script], check=True)
        assert joined.read_text() == "pushtrain1.secret\n"
        assert joined.stat().st_mode & 0o077 == 0
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(cloud.url(one.id))
    with urllib.request.urlopen(cloud.url(other.id)) as answer:
        assert answer.read() == b"pushtrain1.secret\n", "each start has an object of its own"


def test_the_token_of_a_machine_that_is_stopped_before_it_joined_is_removed(cloud: Cloud) -> None:
    (machine,) = cloud.provider().start(["a-1"]).machines
    url = cloud.url(machine.id)
    cloud.provider().stop(["a-1"])
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(url)


def test_where_the_token_cannot_be_put_no_machine_is_started_and_the_rights_are_named(cloud: Cloud) -> None:
    cloud.text = cloud.text.replace("s3://fleet/join", "s3://nobodys/join")
    refused = cloud.provider().start(["a-1"]).refused["a-1"]
    assert refused.startswith("removing the join token: S3 says NoSuchBucket")
    assert "s3:DeleteObject below s3://nobodys/join" in refused
    assert cloud.instances() == []


def test_a_start_that_is_repeated_makes_one_machine(cloud: Cloud, tmp_path: Path) -> None:
    first = cloud.provider().start(["a-1"])
    assert cloud.provider().start(["a-1"]) == first
    other = tmp_path / "another-head"
    other.mkdir()
    assert cloud.provider(state=other).start(["a-1"]) == first, "tags are enough to find it"
    assert len(cloud.instances()) == 1


def test_an_answer_that_is_lost_and_a_list_that_lags_make_no_second_machine(cloud: Cloud) -> None:
    cloud.faults("lose=2")
    first = cloud.provider().start(["a-1"])
    cloud.faults("hide=1")
    assert cloud.provider().start(["a-1"]).machines[0].id == first.machines[0].id
    assert len(cloud.instances()) == 1


def test_a_machine_that_was_lost_is_started_anew(cloud: Cloud) -> None:
    (first,) = cloud.provider().start(["a-1"]).machines
    cloud.client.terminate_instances(InstanceIds=[first.id])
    assert cloud.provider().running() == ()
    # The stand-in answers a repeated request as at first, as if the machine were there: another start is told apart.
    cloud.provider().stop(["a-1"])
    (second,) = cloud.provider().start(["a-1"]).machines
    assert second.id != first.id


def test_what_one_zone_or_type_has_not_another_may_have(cloud: Cloud) -> None:
    one, two = cloud.subnets
    code = "InsufficientInstanceCapacity"
    cloud.faults(f"refuse=p4d.24xlarge/{one}:{code}&refuse=p4d.24xlarge/{two}:{code}")
    before = len(cloud.faults(f"refuse=p4d.24xlarge/{one}:{code}&refuse=p4d.24xlarge/{two}:{code}"))
    started = cloud.provider().start(["a-1"])
    assert started.refused == {}
    assert cloud.faults()[before:] == [f"p4d.24xlarge/{one}", f"p4d.24xlarge/{two}", f"g5.xlarge/{one}"]
    assert [each["InstanceType"] for each in cloud.instances()] == ["g5.xlarge"]


def test_where_nothing_is_to_be_had_each_reason_is_told(cloud: Cloud) -> None:
    cloud.faults("refuse=*:InsufficientInstanceCapacity")
    started = cloud.provider().start(["a-1"])
    assert started.machines == ()
    assert started.refused["a-1"].startswith("EC2 has none: p4d.24xlarge in subnet-")
    assert started.refused["a-1"].count("InsufficientInstanceCapacity") == 4


def test_a_fault_of_the_settings_is_told_without_trying_all_types(cloud: Cloud) -> None:
    before = len(cloud.faults("refuse=*:InvalidAMIID.NotFound"))
    refused = cloud.provider().start(["a-1"]).refused
    assert refused == {"a-1": "InvalidAMIID.NotFound: InvalidAMIID.NotFound, as the test wants"}
    assert len(cloud.faults()) == before + 1


def test_requests_that_are_throttled_are_made_again(cloud: Cloud) -> None:
    cloud.faults("throttle=2")
    assert [each.name for each in cloud.provider().start(["a-1"]).machines] == ["a-1"]


def test_stopping_is_safe_to_repeat_and_leaves_other_fleets_alone(cloud: Cloud) -> None:
    ours, theirs = cloud.provider(), cloud.provider(cluster=f"{cloud.cluster}-2", state=cloud.state / "2")
    ours.start(["a-1", "a-2"])
    theirs.start(["a-1"])
    ours.stop(["a-1"])
    ours.stop(["a-1", "a-3"])
    assert [each.name for each in ours.running()] == ["a-2"]
    assert [each.name for each in theirs.running()] == ["a-1"]
    theirs.stop(["a-1"])


def test_a_cloud_that_does_not_answer_is_an_error_and_not_an_empty_list(cloud: Cloud) -> None:
    cloud.text = cloud.text.replace(cloud.endpoint, "http://127.0.0.1:9")
    with pytest.raises(EngineError, match="listing machines"):
        cloud.provider().running()


def test_several_hosts_are_started_at_once_and_each_has_its_own_end(cloud: Cloud) -> None:
    names = ["a-1", "a-2", "a-3"]
    cloud.provider().start(["a-2"])
    started = cloud.provider().start([*names, "b-1"])
    assert sorted(each.name for each in started.machines) == names
    assert started.refused == {"b-1": "elastic.yml has no such host"}
    assert len(cloud.instances()) == 3


def test_a_start_that_the_full_disk_of_the_head_cannot_note_is_refused_and_no_machine_is_lost(
    cloud: Cloud,
) -> None:
    (cloud.state / "ec2").mkdir()
    (cloud.state / "ec2" / "a-1.part").symlink_to("/dev/full")
    refused = cloud.provider().start(["a-1"]).refused["a-1"]
    assert "the start cannot be noted on the head" in refused
    assert "No space left" in refused
    assert cloud.instances() == []
