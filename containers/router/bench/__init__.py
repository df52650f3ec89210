"""How much time does the router add, and what does it do when pods fail? Its figures, against HAProxy."""
