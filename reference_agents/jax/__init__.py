"""Agents in JAX."""
