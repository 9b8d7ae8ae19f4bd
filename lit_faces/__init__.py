"""lit_faces: Action Unit and expression detectors that specialise to one person from one photo.

``lit_faces.load("generic")("photo.jpg")`` reads a picture; :mod:`lit_faces.api` has the rest.
"""

from lit_faces.api import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]
