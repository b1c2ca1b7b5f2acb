"""What tests need to misbehave on purpose: an unruly daemon, a cable cutter."""
