"""How a process answers: limits, connections, bodies, responses, log and metrics."""
