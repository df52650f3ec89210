"""What would AWS answer? A whole account on localhost: moto, and `moto_gaps` for what it lacks."""
