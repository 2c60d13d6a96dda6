"""The collaborators behind the facade ``Huey``."""
