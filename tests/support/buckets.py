"""An S3 of this machine: moto, on loopback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moto.server import ThreadedMotoServer
from pyarrow.fs import FileSystem

KEY, SECRET, REGION = "key", "secret", "us-east-1"


@contextmanager
def served(bucket: str) -> Iterator[tuple[str, str]]:
    """The server's address and how `pyarrow.fs` is told of it (`?` and what follows), with a bucket, while inside."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        where = f"?endpoint_override={host}:{port}&scheme=http&region={REGION}&allow_bucket_creation=true"
        FileSystem.from_uri(f"s3://{KEY}:{SECRET}@{bucket}{where}")[0].create_dir(bucket)
        yield f"http://{host}:{port}", where
    finally:
        server.stop()


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URI of a folder in a bucket that this process serves."""
    with served("bucket") as (_, where):
        yield f"s3://{KEY}:{SECRET}@bucket/some/where{where}"
