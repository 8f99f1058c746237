"""The arrays: immutable Zarr v3 segments, read and written through TensorStore."""
