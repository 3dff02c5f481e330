"""What makes a run, and what is done with one."""
