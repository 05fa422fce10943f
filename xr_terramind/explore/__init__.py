"""Embeddings -> pictures, maps and tables.

======================  ==========================================================================
`cells`                 embeddings as rows of vectors, and rows as maps again
`rgb`                   principal components as colours
`similarity`            cosines to a place, a vector or another date
`cluster`               k-means
`points`, `classify`    vectors at points; classes learned from them
======================  ==========================================================================
"""
