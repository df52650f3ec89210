"""How good is the loop? Every figure of docs/evaluation.md about it, measured again."""
