"""What runs the scheduler: transports, the server and worker loops, isolated child processes, leaders.

The front door is `swiftpy.runtime.job.run`. Nothing here may know UPF, models, or the layout of an EXP.
"""
