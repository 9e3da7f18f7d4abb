"""The pipeline on a real cluster of Kubernetes: the README's commands, then faults.

The cluster is the one that kubectl's current context names, of any kind, with a default
StorageClass. Each run has a namespace of its own, which it asks for (YES=1: does not ask) and
removes in the end; it touches nothing else.

Images are built here. Where the cluster's nodes do not share this machine's engine,
KUBERNETES_LOAD is a command that brings them there, with their names in place of {}: `kind load
docker-image {}`, say, or `minikube image load {}`. KUBERNETES_KILL and KUBERNETES_START are
commands by which one of the nodes fails and comes back, with its name in place of {}: `docker kill
{}`, say, and `docker start {}`; without them no node is drained, nor fails.
"""
