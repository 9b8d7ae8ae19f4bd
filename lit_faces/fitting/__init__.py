"""From 68 landmarks to a face in three dimensions, and to the same face in any pose with any AUs."""
