"""The base that everything else uses: clocks, processes, files, masks, logs. Imports nothing from the packages above."""
