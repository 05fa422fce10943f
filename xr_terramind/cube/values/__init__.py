"""What raw pixel values mean: judged image by image, by quantiles, and by what the attrs say.

`images` takes a sample of valid pixels, one image per date. `judge` is the recipe: name nodata that
nobody declared (`undeclared`), then judge the rest by the unit of the training data (`reflectance`,
`offset`, `backscatter`). `remedies` writes the Python that mends a cube, for whole cubes and for
some dates of it.
"""
