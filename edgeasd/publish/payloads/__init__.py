"""What is published: for each kind of message its fields, their rules, and how it is made.

Pure: no clock, no network, no disk.  Others call the functions of `event`, `state`, `score` and
`health`, and send what `encoding.encode` makes of their payloads.  The schemas in
``deploy/schemas/`` are generated from the types there, where each field has its description.
"""
