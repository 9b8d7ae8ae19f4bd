"""What a run leaves to be read: pages, pictures, plots, tables, W&B."""
