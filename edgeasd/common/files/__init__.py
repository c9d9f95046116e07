"""Files and folders, safe for root: written whole or not at all, read with a bound, no links.

It may import `edgeasd.common.errors` alone.
"""
