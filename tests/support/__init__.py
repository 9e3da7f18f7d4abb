"""What faults and benchmark share: the images of the stages, their containers, a fast client."""
