"""What the leaders, one rank of each node, do before the tasks start and after the last has ended."""
