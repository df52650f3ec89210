"""What do pods run on? The EKS cluster, its add-ons and charts, and a node group for each pool."""
