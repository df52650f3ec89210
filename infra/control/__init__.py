"""What runs the loop? Its functions, schedules and state, and what lets go of its rules in the end."""
