"""The UPF application: one task for each line of an unrolled parameter file, in an EXP directory.

mpiexec -n PROCS python -m swiftpy.upf UPF DFLTS [--restart EXP]
"""
