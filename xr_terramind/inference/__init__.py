"""Blocks of pixels to arrays of vectors, in whatever process a block runs.

`request` is what travels to a worker. `encode` gathers windows and sends them through the model in
batches, `resize` a whole extent as one window; `loaded` keeps one engine per process, in the one
thread that runs models. `device` chooses device, precision and batch size; `engines` are the ways
to run the encoder. `estimate` says what it would cost.
"""
