"""Faults: what may happen to containers, network and broker while messages flow.

Each fault is a test on real containers: the shipped images, built as compose builds them, and a
broker on a network of their own. A source publishes numbered messages and notes which are
confirmed, `to_upper` stands in the middle, and a sink prints the id and the first word of each
message. After every fault the same five things are asserted, by number and by id (stream.py):

    L  every confirmed message is at the sink, or in the dead letters where the fault means that
    U  nothing else is
    D  no more comes twice than was in flight at the fault, and what does has the id of the first
    W  all replicas are ready, messages flow, and the backlog is gone, within a stated time
    X  processes that are asked to stop exit with 0 within the grace period

`make test-faults` runs all of them, `make test` those marked `quick` only, `.ci/run` those marked
`thorough` as well. soak.py is the long run.
"""
