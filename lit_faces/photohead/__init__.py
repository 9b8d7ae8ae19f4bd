"""A photograph as a head of the renderer: the photo's own pixels on a mesh that moves as muscles move it.

::

    photo --dlib--> 68 points --fit--> pose, identity, AUs, residual      fitting.py   (mesh.py: the parametric head)
      |                                   |
      |                          light on the skin (harmonics)            light.py
      |                                   |
      +-- layers: face | hair, ears, neck (continued depth) | background  layers.py
                                          |
    asked pose, AUs left and right, gaze --> moved mesh --> which pixel of the photo shows this point of skin
                                          |                 lids.py, mouth.py: skin and teeth that the photo hides
                                          +--> ratio of lights, furrows of the AUs (relief.py) --> picture, landmarks

:class:`lit_faces.photohead.head.PhotoHead` is the way in.
"""
