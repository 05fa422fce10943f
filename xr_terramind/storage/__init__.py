"""Embeddings kept: Zarr with resume, tables, images.

`to_zarr` writes block by block: `layout` says how blocks lie, `store` opens, lists and writes them,
`resume` decides whether a store may be gone on with, `geoemb` names what conventions ask for.
`geoparquet` writes one row per cell, `cog` images for a GIS; `whole_files` keeps a file from its
name until it is complete.
"""
