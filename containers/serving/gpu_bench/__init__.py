"""How fast is a full-size model on this GPU, eager against compiled? Random weights, nothing to download."""
