"""What can be had? Nodes and their states, refused launches, losses, and how far a unit is trusted."""
