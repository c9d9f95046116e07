"""Files of our own and of others: written whole or not at all, read bounded, links not followed."""
