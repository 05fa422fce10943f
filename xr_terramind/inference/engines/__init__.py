"""The ways to run one encoder.

`base` is what all have: how windows reach a device and vectors come back, how many at once.
`pytorch` is our own network in torch, `terratorch` TerraTorch's own model, `openvino` a converted
encoder that runs without torch. `cuda` copies beside the model and records the encoder for a few
batch sizes; `cache` keeps what was converted.
"""
