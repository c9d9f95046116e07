"""Sound in: microphones, recordings and the simulated machine, as blocks of samples.

It may import `common` alone.  Others open a source with `source.open_source`, or with
`source.open_or_wait` where a microphone that is not there is to be waited for.
"""
