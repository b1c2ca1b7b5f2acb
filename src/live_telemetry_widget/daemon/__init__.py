"""The trainer daemon: a durable log (:mod:`.log`), the runs (:mod:`.runs`), the gRPC services (:mod:`.server`)."""
