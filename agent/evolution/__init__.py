"""What evolving programs needs beside a proposer: archives, islands, descriptors and novelty. No model, no run."""
