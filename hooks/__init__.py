"""What the leaders, one rank of each node, do before the tasks start."""
