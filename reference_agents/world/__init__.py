"""What agents act in: environments, seen or felt, whose ground may change."""
