"""Checkpoints of a training in the layout of CANDLE's ckpt module, with restarts that change nothing in the
result.

`config` reads the ckpt_* keys, `store` knows the layout, `files` how a directory is replaced as a whole, `state` the
extra file for an exact resume; `background` writes while training goes on; `saver` decides when. `keras` (with
`snapshot`) and `torch` bring them to a model: only these need a model framework.
"""
