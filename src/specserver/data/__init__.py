"""The data folder: the names of all its files, and the one way to read and write them.

The folder of a context holds::

    <data>/<context>/
        leases/                     writers at work (`data.leases`)
        maintain.lock               held while the context is maintained (`ingest.maintain`)
        access.json                 whether the context is private (`auth`)
        survey.json                 the survey that the folder declares (`surveys.generic`)
        targets-….parquet           its table of targets
        tree.json, tree-….npy       a tree of original files (`store.trees`)
        seg-…/                      segments (`store.layout`)
            segment.json            written last: it makes the segment count
            objects.parquet         catalogue rows (`catalog.segment_rows`)
            cube.zarr/              a Zarr v3 group (`store.zarr`)
            spectra.zarr/           the same as older versions wrote it (format 1)
        migration.lock              held while segments are rewritten (`store.migration`)
        index/                      the index
            manifest/00000001.json  versions of the index (`catalog.index.manifest`)
            part-…/                 its parts, which never change
            marks-….npy             rows of a part that differ from what the part says
            CURRENT                 older versions: name of the generation in use
            lock                    held while the index is made anew or merged
            gen-…/                  a generation (`catalog.index.generations`)
        catalogs/                   value-added tables (`catalog.tables.vac`)
            <name>.parquet          the table as it came, names made valid; it counts when it exists
            <name>.json             its digest; for a moment also that of the table that it replaces
            <name>.index/           generations, as above
            <name>.postgres         a table that stays in PostgreSQL (`catalog.tables.existing`)

What has a name of another form is of someone else: it is neither read nor deleted.
"""
