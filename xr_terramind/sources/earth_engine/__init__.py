"""Sentinel-2 from Google Earth Engine, lazily.

`open_s2` is the recipe: read place and dates, lay a grid, ask (`query`), open with Xee, label.
`fetch` reads pixels: bounded in number, retried, with errors that say where; `chunks` keeps
requests under the service's limit.
"""
