"""Sound in: microphones, recordings and the simulated machine, as blocks of samples.

It may import `edgeasd.common` alone.  Others open a source with `source.open_source`.
"""
