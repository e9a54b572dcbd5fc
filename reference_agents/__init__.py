"""Reference agents: SAC and TD3 with their neurons measured, and reset when they stop learning.

Every agent, in every framework, shares one training loop, one replay buffer, one set of records and one
configuration; a framework contributes its networks and its update step. Start one with::

    python -m reference_agents.train --env HalfCheetah-v5 --steps 20000 --reset regrama --out runs/demo
"""
