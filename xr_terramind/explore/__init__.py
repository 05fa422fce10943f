"""Embeddings -> pictures, maps and tables.

======================  ==========================================================================
`cells`                 embeddings as rows of vectors, and rows as maps again
`rgb`                   principal components as colours
`cosines`               of vectors; whether embeddings may be compared
`similarity`, `change`  to a place or a vector; of one date to another
`cluster`               k-means
`places`, `points`      which cell holds a place; the vectors at points
`classify`              classes learned from points, and by `cross_validation` how well
======================  ==========================================================================
"""
