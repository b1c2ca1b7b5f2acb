"""The trainer daemon: the gRPC services, in front of a durable log of runs.

``server`` puts it together, ``trainer`` and ``telemetry`` are the two services, ``publish`` takes telemetry in, ``log`` commits
and fans out, ``runs`` knows the runs and their states, ``config`` reads a submitted config, ``lock`` keeps a second daemon out.
"""
