"""The benchmark: what is measured, against whom, and how to add to it.

`make bench` runs all of it (half an hour), `make bench QUICK=1` all kinds of work with small
numbers (two minutes). Parts of it, for somebody who is tuning:

    make bench ARGS='--only relay --candidates ours,c --size 16 --queue-type quorum --rounds 3'

**What is measured** is the shipped images with their default settings, built as compose builds
them, each in a container on one network with a broker of its own. The references run beside them:
a relay, a publisher and a printer in C on librabbitmq (c/), and Python's other ways of doing the
same (peers/), in an image that has them in the stages' Python and is never part of the project.

**The kinds of work** are the modules of workloads/; each begins with a sentence that says what it
does. relay.py, above them, is the measurement most of them rest on. After every run all messages
are read back: one that is lost makes the benchmark end with 1.

**To add a peer**: a module in peers/ with the functions that peers/__init__.py describes, and a
line in `PEERS` in candidates.py; its package goes into the group `bench` of pyproject.toml, then
`make lock`. **To add a kind of work**: a module in workloads/ and a line in workloads/__init__.py.

**The results** go to results/: results.md (the tables, and the goals), results.json (every run),
and plots. A quick run writes to results/quick, a selection only prints.
"""
