"""From a photo to a person: landmark model, retargeting, plans."""
