"""Floor 2: the simulators behind the ids, true backends and the learned twin."""
