"""A training run: the loop, replay buffer, evaluation, and the files it writes."""
