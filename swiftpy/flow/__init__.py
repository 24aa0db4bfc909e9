"""Dataflow in plain Python: tasks, futures, and the program on rank 0 that submits them."""
