"""The outbox: events on disk, in order, until the broker has them."""
