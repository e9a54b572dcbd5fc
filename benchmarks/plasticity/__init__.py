"""Agents that lose plasticity on a desk, in minutes, and what gives it back to them."""
