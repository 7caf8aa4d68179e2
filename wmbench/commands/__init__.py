"""One module per command; each is a typed function over logic that Python can call without it."""
