"""The Uno drug response model (model_name `unorun`): hyperparameters, network, feed, training and scores.

`network`, `optimizer`, `compiled`, `evaluate` and `training` import TensorFlow, and are imported when a RUN begins.
"""
