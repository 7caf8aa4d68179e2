"""Floor 4: boards, submissions and their re-execution."""
