"""EXP directories: names, provenance, journal, lock, markers, restart. Knows no MPI and no models.

An EXP that is being prepared (created, RUNs carried over) is told from one whose job began by its journal:
the first line is `exp_created`, and `job_started` is written only when everything that was carried over is
on disk.
"""
