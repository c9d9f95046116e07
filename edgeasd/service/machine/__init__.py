"""One machine: the thread that listens to it, the judgement of its state, and what it tells.

It may import `service.node` and every folder below `service`.  Others use `machine.Machine`.
"""
