"""What the cases work with: data, servers and a client, each made when first asked for."""

from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specserver.catalog.followed import open_database
from specserver.client.api import SpecClient
from specserver.client.session import Session
from specserver.data.root import DataRoot, open_root
from specserver.service import SpectroscopicService
from specserver.service.archive import Archive
from specserver.service.open_contexts import OpenContexts

from .cache import Cache, source_digest
from .data import CONTEXT, Library, Scale, make_library, warm
from .formats import as_format_1
from .large import RECIPE, make_context
from .postgres import Postgres, open_catalogue, open_postgres
from .service import Running, serve_data
from .table import make_table

Ids = npt.NDArray[np.uint64]
_SEED = 5


class Bench:
    """The bench of one run; what it starts ends with the stack of contexts it was given."""

    def __init__(self, cache: Cache, scale: Scale, stack: ExitStack) -> None:
        self.cache = cache
        self.scale = scale
        self.stack = stack
        self.case_stack = ExitStack()
        """Ended after each case."""
        self.rng = np.random.default_rng(_SEED)
        self.session = Session()

    @cached_property
    def library(self) -> Library:
        """The spectra; all their files are in the page cache."""
        library, self._made = make_library(self.cache, self.scale)
        segments = library.data / CONTEXT
        warm(segments.glob("seg-*/*.zarr/**/*"))
        warm(map(Path, library.npy.tolist()))
        return library

    @cached_property
    def server(self) -> Running:
        """The service."""
        return self.stack.enter_context(serve_data(self.library.data))

    @cached_property
    def client(self) -> SpecClient:
        """A client of the service."""
        return SpecClient(CONTEXT, svc_url=self.server.url)

    @cached_property
    def service(self) -> SpectroscopicService:
        """The service's own object, in this process."""
        return SpectroscopicService(open_root(self.library.data))

    @cached_property
    def table(self) -> Any:
        """The rows of the catalogue, which is attached: a pyarrow table."""
        import pyarrow.parquet as pq  # noqa: PLC0415

        library = self.library
        file, self._table_made = make_table(self.cache, self.scale, library, self._made)
        return pq.read_table(file)

    @cached_property
    def postgres(self) -> Postgres:
        """A database that holds the same rows."""
        table = self.table
        name = f"{self.scale.name}-postgres"
        return self.stack.enter_context(open_postgres(self.cache, name, table, self._table_made))

    @cached_property
    def placed(self) -> SpectroscopicService:
        """The service's own object over rows of which no two have one place in the store."""
        data = self._rows("placed", self.scale.nrows, 1, own_places=True)
        warm(data.context(CONTEXT).index.local_path().rglob("*"))
        return SpectroscopicService(data)

    @cached_property
    def in_postgres(self) -> SpectroscopicService:
        """The service's own object over the rows of `placed`, with its catalogue in PostgreSQL.

        A database follows the data folder as that of a service does.
        """
        data = self.placed.archive.data
        name = f"{self.scale.name}-catalogue"
        stamp = {"recipe": RECIPE, "spectra": self._made, "code": source_digest("catalog/postgres")}
        url = self.stack.enter_context(open_catalogue(self.cache, name, data, stamp))
        database = open_database(url)
        self.stack.callback(database.close)
        return SpectroscopicService(Archive(OpenContexts(data, database)))

    @cached_property
    def format_1(self) -> SpectroscopicService:
        """The service's own object over the same spectra in format 1 of the store."""
        library, scale = self.library, self.scale
        folder, _ = self.cache.part(
            f"{scale.name}-format-1",
            {"spectra": self._made},
            lambda path: as_format_1(open_root(library.data), path, CONTEXT),
        )
        return SpectroscopicService(open_root(folder))

    def large(self, nparts: int, *, by_field: bool = False) -> SpectroscopicService:
        """The service's own object over a context of many rows, in so many index parts.

        All files of the index are in the page cache.

        Parameters
        ----------
        by_field : as `make_context` takes it
        """
        name = f"{'fields' if by_field else 'parts'}-{nparts}"
        data = self._rows(name, self.scale.large, nparts, by_field=by_field)
        warm(data.context(CONTEXT).index.local_path().rglob("*"))
        return SpectroscopicService(data)

    def growing(self, nrows: int) -> DataRoot:
        """Return a data folder with so many rows, none of them of the spectra, to be added to."""
        return self._rows(f"growing-{nrows}", nrows, 1, held=False)

    def _rows(self, name: str, nrows: int, nparts: int, **how: bool) -> DataRoot:
        library = self.library
        stamp = {"recipe": RECIPE, "nrows": nrows, "spectra": self._made}
        folder, _ = self.cache.part(
            f"{self.scale.name}-{name}",
            stamp,
            lambda path: make_context(
                open_root(library.data), path, nrows, nparts, few_columns=True, **how
            ),
        )
        return open_root(folder)

    @property
    def packages(self) -> dict[str, str]:
        """Versions of what is not a Python package, of what was started."""
        started = self.__dict__.get("postgres")
        return started.versions if started else {}

    def draw(self, number: int) -> Ids:
        """Return so many identifiers of different spectra, in random order."""
        ids: Ids = self.rng.choice(self.library.ids, number, replace=False)
        return ids

    def load(self, ids: Ids) -> list[npt.NDArray[Any]]:
        """Return spectra as local .npy files hold them."""
        return [np.load(path) for path in self.library.of(ids, self.library.npy)]
