"""The continual-digits study: accuracy falls as neurons stop learning, and comes back with resets."""
