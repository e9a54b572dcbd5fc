"""Runs side by side: what they reached, and how sure that is."""
