"""What TerraMind is, apart from any data.

`modalities` lists the images that it takes: bands, units, pretraining statistics; `specs` the sizes
in which it comes. `hub` finds a model's file, `weights` reads it strictly, `random_weights` draws
what stands in for one. `encoder` is the network, in torch, on one page.
"""
