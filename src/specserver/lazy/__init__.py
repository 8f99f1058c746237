"""A data folder opened in process: lazy arrays for Dask and xarray, and composites by Dask."""

from .folder import DataFolder

__all__ = ["DataFolder"]
