"""What `hats` and LSDB find in collections, as JSON: run by `test_export_hats.py`.

They are imported in a process of their own: they take seconds, and change pandas' options.

Argument: JSON, a list of collections: its folder, and ra, dec and radius of a cone in degrees.
"""

import json
import sys
from pathlib import Path
from typing import Any

import lsdb
import numpy as np
from hats import read_hats
from hats.io.validation import is_valid_catalog, is_valid_collection
from hats.pixel_math import HealpixPixel, get_margin
from hats.pixel_math.healpix_shim import margin2order
from hats.pixel_tree.negative_tree import compute_negative_tree_pixels
from hats.pixel_tree.pixel_tree import PixelTree


def margin_of(folder: Path, rows: Any) -> dict[str, list[int]]:
    """Return the rows that each pixel's margin has by the functions of `hats`."""
    main = read_hats(folder).main_catalog
    threshold = read_hats(read_hats(folder).default_margin_catalog_dir).catalog_info
    order = int(margin2order(threshold.margin_threshold / 60.0))
    held = main.get_healpix_pixels()
    empty = compute_negative_tree_pixels(PixelTree.from_healpix(held))
    small = rows >> 2 * (29 - order)
    found = {}
    for pixel in [*held, *(HealpixPixel(*each) for each in empty)]:
        near = get_margin(pixel.order, pixel.pixel, order - pixel.order)
        inside = np.flatnonzero(np.isin(small, near))
        if len(inside):
            found[f"{pixel.order}/{pixel.pixel}"] = rows[inside].tolist()
    return found


def read(folder: Path, ra: float, dec: float, radius: float) -> dict[str, Any]:
    """Return what is found in a collection."""
    collection = read_hats(folder)
    parts = [collection.main_catalog_dir, collection.default_margin_catalog_dir]
    catalog = lsdb.open_catalog(folder)
    every = catalog.compute()
    near = catalog.cone_search(ra, dec, radius * 3600.0, fine=True).compute()
    described = json.loads(collection.main_catalog.schema.metadata[b"specserver.spectra"])
    flux = [np.asarray(each["flux"], np.float64) for each in near["spectrum"]]
    return {
        "valid": [is_valid_collection(folder, strict=True)]
        + [is_valid_catalog(part, strict=True) for part in parts],
        "rows": [len(every), int(collection.main_catalog.catalog_info.total_rows)],
        "kind": str(every.dtypes["spectrum"]),
        "ids": [int(number) for number in near[described["id_column"]]],
        "sums": [float(values.sum()).hex() for values in flux],
        "margin_rows": len(catalog.margin.compute()),
        "margin": margin_of(folder, np.sort(np.asarray(every.index, np.int64))),
    }


if __name__ == "__main__":
    found = [read(Path(folder), *cone) for folder, *cone in json.loads(sys.argv[1])]
    print("found " + json.dumps(found))
