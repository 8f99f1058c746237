"""The ingest: plan, read, write a segment, commit."""

from .pipeline import IngestSummary, run_ingest

__all__ = ["IngestSummary", "run_ingest"]
