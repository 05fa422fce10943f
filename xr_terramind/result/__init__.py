"""What comes out, labelled.

`grid` puts coordinates, CRS and attributes on vectors: `coords` keeps those of the cube, as files
take them, `attrs` says what made the vectors, and `text` turns into text what files do not take.
`cells` finds the borders of cells and the cell that holds a place, `check` refuses what is no
embedding, `kinds` says what an object is. `quantize` packs vectors into int8 and back, `describe`
reads a stored embedding's attributes out in words.
"""
