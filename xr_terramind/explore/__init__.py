"""Embeddings looked at: pictures, maps, tables.

`vectors` treats an embedding as rows of vectors, and rows as maps again. `rgb` shows principal
components as colours; `cosines` compares vectors, `similarity` with a place, `change` with another
date; `cluster` groups them. `sample` returns the vectors at points, `classify` learns classes from
labelled ones, and `cross_validation` says how well.
"""
