"""Pictures of 3D models: views around a character, in poses that its rig can take.

f3d draws .glb .gltf .vrm .obj .fbx .dae and more at once; Blender opens also .blend files. Each
runs in a process of its own.
"""

from __future__ import annotations

from .. import Source
from .look import look
from .settings import ModelSettings

SOURCE = Source("models3d", "3D models: renders in views and poses", "FILE", ModelSettings, look)
