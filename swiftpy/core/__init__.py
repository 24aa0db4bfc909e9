"""The scheduler: a pure state machine, `Scheduler.step(event) -> commands`.

Nothing here may know MPI, clocks, files, threads, randomness, or what a payload means. The same events in the
same order always give the same commands.
"""
