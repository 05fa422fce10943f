"""What comes out, labelled.

`grid` puts coordinates, CRS and attributes on vectors, `attrs` says what made them. `cells` finds
the borders of cells and the cell that holds a place. `quantize` packs vectors into int8 and back,
`describe` reads a stored embedding's attributes out in words.
"""
