"""What would the loop do, and what would it save? The fleet on one machine, down to the single request."""
