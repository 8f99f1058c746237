"""Settings of a server, read once at the edge: from arguments, then the environment."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings of a server; each also as an environment variable ``SPECSERVER_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="SPECSERVER_")

    data: Path = Field(default=Path("specserver-data"), title="Data folder")
    max_ids: int = Field(
        default=1_000_000,
        ge=1,
        title="Identifiers in one request",
        description="A request holds about 100 bytes of bookkeeping for each.",
    )
    max_body_bytes: int = Field(
        default=64 * 2**20,
        ge=1024,
        title="Bytes of a request's body",
        description="Room for a million identifiers as text; the body is held in memory.",
    )
    query_timeout_s: float = Field(
        default=600.0,
        gt=0,
        title="Longest time of one query, seconds",
        description="A caller's own timeout may be shorter, never longer.",
    )
    vos_quota_bytes: int = Field(
        default=10 * 2**30, ge=0, title="Bytes that each user may keep in virtual storage"
    )
    vos_max_entries: int = Field(
        default=100_000,
        ge=0,
        title="Files and folders that each user may keep in virtual storage",
        description="They are listed and counted in memory.",
    )
    vos_max_file_bytes: int = Field(
        default=2 * 2**30, ge=0, title="Bytes of one file in virtual storage"
    )
    max_image_pixels: int = Field(
        default=2**24,
        ge=10_000,
        title="Pixels of one picture",
        description="4096 × 4096; a picture being drawn holds up to 13 bytes for each.",
    )
