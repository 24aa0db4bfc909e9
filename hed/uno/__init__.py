"""The Uno drug response model (model_name `unorun`): hyperparameters, network, feed, training and scores.

Only `network`, `feed` and `training` need TensorFlow; they are imported when a RUN begins.
"""
