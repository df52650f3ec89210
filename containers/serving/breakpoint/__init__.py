"""At which load does the objective break? The search, and fleet.yaml's `profile` that follows from it."""
