"""Checkpoints of a training in the layout of CANDLE's ckpt module, with restarts that change nothing in the
result.

`config` reads the ckpt_* keys, `store` knows directories and files, `state` the extra file for an exact
resume, `keras` brings them to a Keras model. Only `keras` needs a model framework.
"""
