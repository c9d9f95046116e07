"""Sound in: microphones, files and the simulator, as blocks of samples."""
