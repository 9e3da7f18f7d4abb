"""The stack of deploy/swarm on three real nodes: the README's commands, then faults.

SWARM_HOSTS names the engines of three managers of one swarm, as DOCKER_HOST does, with blanks
between. SWARM_KILL and SWARM_START are commands by which one of them fails and comes back, with its
number in place of {}: `virsh destroy node-{}`, say, and `virsh start node-{}`.

Images are built here and loaded into each node. The stack has a name of its own; the labels that it
needs are taken away from the nodes in the end.
"""
