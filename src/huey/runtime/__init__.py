"""The ground that everything else stands on: clocks, processes, files, masks, logs. Imports nothing of the packages above."""
