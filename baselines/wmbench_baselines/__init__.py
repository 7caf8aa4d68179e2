"""Floor 3: the contestants: world models, policies, planners and their training."""
