"""What runs in the cluster: which node takes a query, and how does it answer? Imports nothing of ours."""
