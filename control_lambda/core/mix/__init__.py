"""Which mix of instance types to have at all (KAIROS)? Asked on a person's machine, not by the loop."""
