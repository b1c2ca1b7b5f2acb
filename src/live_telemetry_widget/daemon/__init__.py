"""The trainer daemon: the gRPC services, in front of a durable log of runs, and the workers that it starts.

``server`` puts it together, ``settings`` says how it is to behave. ``trainer`` and ``telemetry`` are the two services, ``callers`` knows
who calls, ``publish`` takes telemetry in, ``log`` commits and fans out, ``lock`` keeps a second daemon out. ``runs`` knows the runs and
their states, ``config`` reads a submitted config, ``tokens`` are what workers carry. ``dispatch`` starts workers and ends them, ``family`` is the
processes of one, ``processes`` what the system knows of them; ``silence`` notes who shows life, ``control`` relays what people want of a worker.
"""
