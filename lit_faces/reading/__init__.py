"""From videos, photos and cameras to tables of Action Units: tracking, reading, formats."""
