"""The ways to run one encoder.

`pytorch` is our own network in torch, `terratorch` TerraTorch's own model, `openvino` a converted
encoder that runs without torch. `streams` moves windows to a device and vectors back, `cuda`
records the encoder for a few batch sizes, `cache` keeps what was converted.
"""
