"""The engine against other ways to run many Python calls, and against bare message loops; see `__main__`."""
