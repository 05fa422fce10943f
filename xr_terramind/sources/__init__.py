"""Where cubes come from.

`place` reads points, boxes and geometries, `target_grid` lays pixels over them. `earth_engine` asks
Google Earth Engine and reads lazily through Xee; `synthetic` draws a scene that needs no download.
"""
