"""What happens around training: pictures, tables, files, W&B."""
