"""What is measured, each case in a process of its own: `python -m bench.cases '{"case": …}'` prints its figures as JSON."""
