"""Which node should a query go to? `matching` decides, purely; around it stands the proxy that asks."""
