"""What is sent to the broker, in which order and how often: events, states, health and scores.

Others use `publisher`, the thread that delivers, and `presence`, the retained messages of a node.
It may import `outbox`, `mqtt` and `topics`.
"""
