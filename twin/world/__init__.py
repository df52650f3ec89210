"""What happens to the fleet? Demand, capacity, nodes and queues, second by second, whoever steers."""
