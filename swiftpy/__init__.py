"""A Swift/T-style MPI dataflow engine in pure Python."""

__version__ = "0.1.0"
