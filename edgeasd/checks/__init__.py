"""``edgeasd check``: is everything there that the daemon will need?"""
