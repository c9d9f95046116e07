"""What is sent, in which order and how often again: events from the outbox, states, health."""
