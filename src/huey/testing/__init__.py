"""For tests: a clock to turn, and the contract of storages as a suite. Each is imported from its own module, so nothing else is loaded.

``huey.testing.clock.FakeClock``, ``huey.testing.contract.StorageContract``.
"""
