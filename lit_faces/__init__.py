"""lit_faces: Action Unit and expression detectors that specialise to one person from one photo."""

__version__ = "0.1.0"
