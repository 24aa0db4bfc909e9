"""What people read from EXP directories. Knows their layout and nothing else of the project."""
