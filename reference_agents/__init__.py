"""Reference agents: off-policy RL agents whose inactive neurons are measured and reset, to keep their plasticity.

All agents share one training loop, replay buffer, log format and configuration; a framework contributes its networks
and its update step. Start one with::

    python -m reference_agents.train --env HalfCheetah-v5 --steps 20000 --reset regrama --out runs/demo
"""
