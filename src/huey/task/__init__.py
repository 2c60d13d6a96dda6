"""What a task is: pure values and functions, without I/O."""
