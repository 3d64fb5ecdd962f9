"""An S3 of this machine: moto, on loopback."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer
from pyarrow.fs import FileSystem


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URI of a folder in a bucket that this process serves."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        where = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
        uri = f"s3://key:secret@bucket/some/where?{where}"
        FileSystem.from_uri(uri)[0].create_dir("bucket")
        yield uri
    finally:
        server.stop()
