"""A synthetic Sentinel-2 scene: every pixel a pure function of its place, date and seed.

`scene` labels it, `landscape` draws fields, woods, river, town and coast, `noise` is what both are
made of.
"""
