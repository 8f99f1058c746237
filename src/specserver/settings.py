"""Settings of a server: read here, once, and then handed down as an argument."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .data.remote.options import USUAL_BYTES, usual_folder


class Settings(BaseSettings):
    """Settings of a server; each also as an environment variable ``SPECSERVER_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="SPECSERVER_", use_attribute_docstrings=True)

    data: str = Field("specserver-data", title="Data folder: a path, or s3://bucket/prefix")
    catalog: SecretStr | None = Field(
        None, title="URL of the PostgreSQL database that answers the catalogue"
    )
    """`postgresql://user@host:5432/name`. It follows the data folder. By default the index in the
    data folder answers."""
    cache: str = Field(
        default_factory=usual_folder, title="Folder on this node's disk for copies of objects"
    )
    """Of a data folder in an object store: parts of the index, and spectra that were asked for."""
    cache_bytes: int = Field(USUAL_BYTES, ge=10**6, title="Most bytes of these copies")
    max_ids: int = Field(1_000_000, ge=1, title="Identifiers in one request")
    """A request holds about 100 bytes of bookkeeping for each."""
    max_body_bytes: int = Field(64 * 2**20, ge=1024, title="Bytes of a request's body")
    """Room for a million identifiers as text; the body is held in memory."""
    max_header_bytes: int = Field(
        256 * 2**10, ge=8192, title="Bytes of a request's line and headers"
    )
    """Room for a list of 10,000 identifiers in a URL; the HTTP parser has no limit."""
    head_timeout_s: float = Field(
        30.0, gt=0, title="Longest time for a request's line and headers to arrive, seconds"
    )
    """A connection that never asks anything holds a file handle."""
    body_stall_timeout_s: float = Field(
        30.0, gt=0, title="Longest time without a byte of a request's body, seconds"
    )
    """Then the request is answered with 408: it holds memory and a file handle."""
    body_timeout_s: float = Field(
        600.0, gt=0, title="Longest time for a request's whole body to arrive, seconds"
    )
    """That is 110 kB/s for the longest that is held in memory; a longer file that is put into
    virtual storage has as much more time."""
    body_memory_bytes: int = Field(
        256 * 2**20,
        ge=2**20,
        title="Bytes of all bodies that each process receives and holds at once",
    )
    """Beyond it a request with a long body is refused with 503 and Retry-After. The first 64 KiB of
    each body are not counted, so that light requests still come in."""
    max_connections: int = Field(4096, ge=16, title="Connections that each process keeps open")
    """Fewer where the system's limit on file handles (ulimit -n) is low. Beyond it the one that
    has been idle longest is ended, else the new one is refused with 503."""
    max_polygon_corners: int = Field(10_000, ge=3, title="Corners of a polygon")
    """Every object near it is compared with each edge."""
    max_rows: int = Field(10_000_000, ge=1, title="Rows of one query")
    """The answer is held in memory, some 8 bytes for each value."""
    max_positions: int = Field(1_000_000, ge=1, title="Positions of one match")
    """A million take seconds; they and their answer are held in memory, some 250 bytes for each."""
    max_lattice_pixels: int = Field(
        2**18, ge=10_000, title="Pixels of a composite, and of resampled spectra"
    )
    """50 times those of a spectrum; a composite being made holds up to 400 bytes for each."""
    stack_disk_bytes: int = Field(
        20_000_000_000, ge=0, title="Bytes of disk that one composite spectrum may use"
    )
    """A median, and clipping, need all values of a pixel at a time: 8 bytes for each pixel of each
    spectrum, in a file that is gone afterwards. Means need none."""
    stack_disk_folder: Path | None = Field(None, title="Folder for these files")
    """By default the system's folder for temporary files, which may be in memory."""
    database_memory_bytes: int = Field(
        2**30, ge=2**26, title="Bytes of memory that the database may take"
    )
    """To answer conditions, in each process; a query that needs more is refused."""
    database_threads: int = Field(2, ge=1, title="Threads of the database")
    """In each process; there is a process for each core."""
    query_timeout_s: float = Field(600.0, gt=0, title="Longest time of one query, seconds")
    """A caller's own timeout may be shorter, never longer."""
    first_byte_timeout_s: float = Field(
        900.0,
        gt=0,
        title="Longest time from a whole request to the first byte of its answer, seconds",
    )
    """Longer than any query may take: what is beyond hangs, on a disk for instance."""
    send_timeout_s: float = Field(
        60.0, gt=0, title="Longest time for a reader to take a piece of 256 KiB, seconds"
    )
    """A reader slower than 4 kB/s is cut off: an answer holds a batch in memory."""
    drain_delay_s: float = Field(
        0.0, ge=0, title="Time for which a server that is being stopped goes on answering, seconds"
    )
    """Meanwhile `/health/ready` says 503, so that the web server in front sends new requests to
    other servers. Longer than the time between two of its looks."""
    drain_timeout_s: float = Field(
        30.0, gt=0, title="Longest time for which a server that stops finishes its answers, seconds"
    )
    """Answers that take longer break off, which every client notices."""
    light_spectra: int = Field(16, ge=0, title="Spectra of a light request")
    """A request for more, a grid of more, a query with a condition, a composite of many
    pixels are heavy: they wait for each other. Light ones never wait for them."""
    light_threads: int = Field(16, ge=1, title="Threads of each process for light requests")
    """They take milliseconds: enough for those that wait for a disk together."""
    heavy_threads: int = Field(2, ge=1, title="Heavy requests that each process works on at a time")
    """There is a process for each core: one of two waits for the disk while the other computes.
    After each batch of spectra the next request gets the thread."""
    heavy_answers: int = Field(64, ge=1, title="Heavy requests that each process answers at once")
    """Each holds up to a batch of spectra, some 25 MB, while its reader takes it; enough for fifty
    slow readers at one process, beside those who work."""
    heavy_queue: int = Field(
        64, ge=0, title="Heavy requests that wait in each process to be answered"
    )
    """The server refuses further ones with 503 and Retry-After; the client then retries."""
    heavy_wait_s: float = Field(
        10.0, gt=0, title="Longest wait of a heavy request in the queue, seconds"
    )
    """After this time the server refuses the request with 503 and Retry-After."""
    caller_requests_per_s: float = Field(
        200.0, ge=0, title="Requests a second of one caller, in each process; 0: any number"
    )
    """A caller is the user of a token, else an address; those on the server's own machine are not
    counted. Beyond it the server answers 429 and Retry-After, and the client retries. A loop that
    fetches spectra one by one over a network makes some 100."""
    caller_burst: int = Field(
        2000, ge=1, title="Requests that a caller may make at once after a rest"
    )
    """A page of a notebook, or of a web site, asks for many things together."""
    caller_heavy: int = Field(
        32,
        ge=0,
        title="Heavy requests that each process answers, or has waiting, for one caller; 0: any",
    )
    """Half of heavy_answers: no caller can take them all. Beyond it the server answers 429 and
    Retry-After."""
    trusted_proxies: str = Field(
        "127.0.0.1,::1", title="Addresses, with commas, of the web servers in front"
    )
    """The caller's address is what they say in X-Forwarded-For; others are not believed."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), title="Names, with commas, under which the service may be asked (the header Host)"
    )
    """`*.example.org` stands for all below it; an address is always allowed. None: any name on
    loopback, else those of this machine."""
    vos_quota_bytes: int = Field(
        10 * 2**30, ge=0, title="Bytes that each user may keep in virtual storage"
    )
    vos_max_entries: int = Field(
        100_000, ge=0, title="Files and folders that each user may keep in virtual storage"
    )
    """They are listed and counted in memory."""
    vos_max_file_bytes: int = Field(2 * 2**30, ge=0, title="Bytes of one file in virtual storage")
    max_image_pixels: int = Field(2**24, ge=10_000, title="Pixels of one picture")
    """4096 × 4096; a picture being drawn holds up to 13 bytes for each."""
    log_format: Literal["text", "json"] = Field(
        "text", title="Form of the log: text for people, json for programs, an object a line"
    )
    log_level: Literal["debug", "info", "warning", "error"] | None = Field(
        None, title="Least important messages that are logged"
    )
    """By default warning for text, and info for json, which has a line for each request."""

    @field_validator("data", mode="before")
    @classmethod
    def _as_text(cls, given: object) -> object:
        """Take a path, too."""
        return str(given) if isinstance(given, Path) else given

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        """Take names with commas, as in the environment."""
        if isinstance(given, str):
            return tuple(name.strip() for name in given.split(",") if name.strip())
        return given


def read_settings(**given: object) -> Settings:
    """Return the settings given, unless None or empty, and the others from the environment."""
    return Settings(**{name: value for name, value in given.items() if value})  # type: ignore[arg-type]
