"""What an operator does with a running pipeline; whoever presents it is somebody else."""
