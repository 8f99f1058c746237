"""A data folder in an object store (S3, Google Cloud Storage, Azure): obstore, and nothing else."""
