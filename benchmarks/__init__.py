"""What a measurement costs, and what resets do: programs that anyone can run again."""
