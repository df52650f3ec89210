"""Which other servers is ours measured against? One module each, over the same pipeline."""
