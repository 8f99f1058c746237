"""One HATS catalogue, or the margin of one, as files: partitions, then what describes them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ..files import sync
from ..model.nested import PIXEL_COLUMN
from ..model.properties import properties_text
from .partitions import Partition

_DATASET: Final = "dataset"
_METADATA_BYTES: Final = 100_000_000
"""Footers of partitions are put together in one file as long as it is no larger."""
_SAMPLED: Final = 100
"""Rows of the sample of a catalogue: the first one of so many partitions."""
_LEVEL: Final = 3
"""Level of zstd. Higher ones take much longer for some percent, as the bytes of noise are."""


class CatalogueWriter:
    """Writes the files of a catalogue into a folder; threads may share it.

    Parameters
    ----------
    folder : is made
    schema : of its rows
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.nrows = 0
        self.nbytes = 0
        self.partitions: list[Partition] = []
        """Those that have rows."""
        self.most = 0
        """Rows of the largest one."""
        self._folder = folder
        self._schema = schema
        self._encoding = _encoding(schema)
        self._footers: dict[str, Any] = {}
        self._footer_bytes = 0
        self._sample: list[pa.Table] = []
        self._lock = Lock()
        (folder / _DATASET).mkdir(parents=True)

    def write(self, partition: Partition, tables: Iterable[pa.Table]) -> None:
        """Write the rows of a partition, a group of rows a table; none: no file is written."""
        path = self._folder / _DATASET / partition.path
        writer: pq.ParquetWriter | None = None
        first: pa.Table | None = None
        nrows = 0
        try:
            for table in tables:
                if not table.num_rows:
                    continue
                if writer is None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    writer = pq.ParquetWriter(path, self._schema, **self._encoding)
                    first = table.take([0]) if len(self._sample) < _SAMPLED else None
                writer.write_table(table, row_group_size=table.num_rows)
                nrows += table.num_rows
        except BaseException:
            if writer is not None:
                # On a full disk this fails, too, and the first error says why.
                with suppress(OSError, RuntimeError):
                    writer.close()
            raise
        if writer is None:
            return
        writer.close()
        sync(path)
        footer = pq.read_metadata(path)
        with self._lock:
            self._add(partition, nrows, path.stat().st_size, footer)
            self._sample += [] if first is None else [first]

    def _add(self, partition: Partition, nrows: int, nbytes: int, footer: Any) -> None:
        """Note a partition that is written."""
        self.partitions.append(partition)
        self.nrows += nrows
        self.nbytes += nbytes
        self.most = max(self.most, nrows)
        self._footer_bytes += footer.serialized_size
        if self._footer_bytes > _METADATA_BYTES:
            self._footers.clear()
        else:
            footer.set_file_path(partition.path)
            self._footers[partition.path] = footer

    def finish(self, title: str, properties: Mapping[str, object], *, sample: bool) -> None:
        """Write what describes the catalogue.

        Parameters
        ----------
        properties : those that only the caller knows
        sample : write a row of each partition, too
        """
        self.partitions.sort(key=lambda partition: (partition.order, partition.pixel))
        dataset = self._folder / _DATASET
        pq.write_metadata(self._schema, dataset / "_common_metadata")
        if len(self._footers) == len(self.partitions):
            footers = [self._footers[partition.path] for partition in self.partitions]
            pq.write_metadata(self._schema, dataset / "_metadata", footers)
        if sample and self._sample:
            table = pa.concat_tables(self._sample).sort_by(PIXEL_COLUMN)
            pq.write_table(table, self._folder / "data_thumbnail.parquet", **self._encoding)
        lines = ["Norder,Npix"]
        lines += [f"{partition.order},{partition.pixel}" for partition in self.partitions]
        (self._folder / "partition_info.csv").write_text("\n".join(lines) + "\n", "ascii")
        own = {
            "hats_nrows": self.nrows,
            "hats_max_rows": self.most,
            "hats_estsize": -(-self.nbytes // 1024),
            "moc_sky_fraction": f"{sum(map(_sky_fraction, self.partitions)):.6g}",
        }
        text = properties_text(title, {**properties, **own})
        # Readers of HATS before version 0.5 know the second name.
        for name in ("hats.properties", "properties"):
            (self._folder / name).write_bytes(text)
        for path in _files(self._folder):
            if path.suffix != ".parquet":
                sync(path)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files that describe a catalogue."""
    yield from (path for path in folder.iterdir() if path.is_file())
    yield from (path for path in (folder / _DATASET).iterdir() if path.is_file())


def _sky_fraction(partition: Partition) -> float:
    """Return the part of the sky that a partition covers."""
    return float(4.0**-partition.order / 12.0)


def _encoding(schema: pa.Schema) -> dict[str, Any]:
    """Return how Parquet encodes columns: floats by BYTE_STREAM_SPLIT, and all by zstd.

    The first bytes of neighbouring floats are alike, and compress well when they lie together.
    """
    leaves = dict(_leaves(schema))
    split = {
        path: "BYTE_STREAM_SPLIT" for path, kind in leaves.items() if pa.types.is_floating(kind)
    }
    split[PIXEL_COLUMN] = "DELTA_BINARY_PACKED"
    return {
        "compression": "zstd",
        "compression_level": _LEVEL,
        "column_encoding": split,
        "use_dictionary": [path for path in leaves if path not in split],
        "sorting_columns": [pq.SortingColumn(schema.get_field_index(PIXEL_COLUMN))],
    }


def _leaves(fields: Iterable[pa.Field], above: str = "") -> Iterator[tuple[str, pa.DataType]]:
    """Yield the columns of Parquet that fields become, and their types."""
    for field in fields:
        kind, path = field.type, f"{above}{field.name}"
        if pa.types.is_struct(kind):
            yield from _leaves(kind, f"{path}.")
        elif pa.types.is_list(kind):
            yield f"{path}.list.element", kind.value_type
        else:
            yield path, kind
