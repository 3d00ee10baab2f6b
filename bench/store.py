"""Throughput of the store against the SDK's own transfer: pairs on one endpoint -> medians and ratios.

python -m bench.store [--size-mib 2048] [--pairs 3] [--uri s3://bucket/prefix?endpoint=URL]
Without --uri an S3 server is started on loopback (moto, a process of its own).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import boto3

from runner.store import open_store
from runner.store.s3_bucket import open_bucket
from tests.fixtures.s3 import CREDENTIALS, make_bucket, serving

WANTED_RATIO, WANTED_AGAIN = 0.9, 10.0


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def fill(path: Path, size_mib: int) -> None:
    with path.open("wb") as file:
        for _ in range(size_mib):
            file.write(os.urandom(1 << 20))


def pair(uri: str, path: Path, *, sdk_first: bool) -> tuple[float, float, float, float]:
    """Seconds of: the SDK's upload_file; put_blob of new content; again; again with the digest known."""
    place, store = open_bucket(uri), open_store(uri)
    sdk = boto3.client("s3", endpoint_url=place.client.meta.endpoint_url, region_name="us-east-1")
    target = place.at("sdk")

    def plain() -> float:
        took = seconds(lambda: sdk.upload_file(str(path), target["Bucket"], target["Key"]))
        sdk.delete_object(**target)
        return took

    before = plain() if sdk_first else None
    ours = seconds(lambda: store.put_blob(path))
    again = seconds(lambda: store.put_blob(path))
    (blob,) = store.blobs()
    known = seconds(lambda: store.put_blob(path, digest=blob.digest))
    store.delete_blob(blob.digest)
    return before if before is not None else plain(), ours, again, known


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size-mib", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--uri")
    asked = parser.parse_args()
    with ExitStack() as stack:
        uri = asked.uri
        if not uri:
            os.environ.update(CREDENTIALS)
            endpoint = stack.enter_context(serving())
            uri = f"s3://{make_bucket(endpoint)}/bench?endpoint={endpoint}&region=us-east-1"
        path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "content")
        fill(path, asked.size_mib)
        rows = [pair(uri, path, sdk_first=number % 2 == 0) for number in range(asked.pairs)]
    sdk, ours, again, known = (statistics.median(column) for column in zip(*rows, strict=True))
    ratio = statistics.median(row[0] / row[1] for row in rows)
    print(f"{asked.size_mib} MiB, medians of {asked.pairs} pairs")
    print(f"  boto3 upload_file             {sdk:8.2f} s")
    print(f"  put_blob, hashing             {ours:8.2f} s   ratio {ratio:.2f} (wanted {WANTED_RATIO})")
    print(f"  put_blob again, hashing       {again:8.2f} s   {ours / again:.0f} times faster")
    faster = f"{ours / known:.0f} times faster (wanted {WANTED_AGAIN:.0f})"
    print(f"  put_blob again, digest known  {known:8.2f} s   {faster}")


if __name__ == "__main__":
    main()
