"""Learn a new person and forget nobody: penalties, and what they are measured from. No trainer in here."""
