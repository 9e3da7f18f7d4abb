"""The scripts of deploy, with a docker and a kubectl that are only played."""
