"""`edgeasd check`: one line on the configuration and on each model, source and broker step."""
