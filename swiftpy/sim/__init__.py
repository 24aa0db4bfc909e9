"""A whole job under a virtual clock: the real scheduler and server loop, simulated workers with faults.

What cannot be run here (100,000 ranks, an hour of tasks) is simulated: `python -m swiftpy.sim --help`. It must not know
MPI, and only the command line reads files: measured durations, also those in the journal of an EXP.
"""
