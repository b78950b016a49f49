"""
An agent of a service: it asks for work, does it, and tells what came of it.

It runs programs, and functions that whoever starts it has named. It needs nothing but
taskorch: `taskorch agent --agent-id agent_001 --orchestrator-endpoint URL`.
"""

from taskorch.frontends.agent._agent import Agent as Agent
from taskorch.frontends.agent._runs import progress as progress
from taskorch.frontends.agent._work import Abilities as Abilities
