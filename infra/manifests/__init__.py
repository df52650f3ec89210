"""What does Kubernetes have to hold? The objects of each unit, each pool and the router, as plain values."""
