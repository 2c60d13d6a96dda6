"""The definition of a task: pure values and functions, without I/O."""
