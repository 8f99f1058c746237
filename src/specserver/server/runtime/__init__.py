"""Answers of a process: limits, connections, bodies, responses, log and metrics."""
