from __future__ import annotations

from tests.fixtures.s3 import s3_credentials, s3_endpoint, s3_uri

__all__ = ["s3_credentials", "s3_endpoint", "s3_uri"]
