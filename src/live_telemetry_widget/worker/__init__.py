"""The worker's side: a demo worker (:mod:`.demo`) and the proxy around any worker process (:mod:`.proxy`)."""
