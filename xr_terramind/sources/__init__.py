"""Where cubes come from.

`place` reads points, boxes and geometries, `target_grid` lays pixels over them (odc.geo's GeoBox),
`label` makes a cube of pixels on such a grid. `earth_engine` asks Google Earth Engine and reads
lazily through Xee; `synthetic` draws a scene that needs no download.
"""
