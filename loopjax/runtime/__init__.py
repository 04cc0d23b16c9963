"""What every other part stands on: config, files, devices, seeds, compiled programs."""
