"""What should the fleet look like now, and why? Pure: no AWS, no clock, no environment; begin at `decide`."""
