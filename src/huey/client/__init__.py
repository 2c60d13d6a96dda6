"""What the facade ``Huey`` is made of."""
