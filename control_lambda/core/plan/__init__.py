"""How many nodes should each pool have? The planner, exact, and the sizes on the way to its plan."""
