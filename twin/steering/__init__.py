"""Who steers the world? The loop, over memory or the embedded AWS, other policies, the least possible."""
