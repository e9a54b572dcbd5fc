"""One run of an agent: the loop, what it remembers and evaluates, and the files that it leaves."""
