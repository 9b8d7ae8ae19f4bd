"""Learn a new person and keep the others: penalties, and what they are measured from. No trainer in here."""
