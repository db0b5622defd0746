# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
"""Runs inside Blender: `blender -b --disable-autoexec -P in_blender.py -- LOOK.json`, or with a
Python that has bpy: `python in_blender.py -- LOOK.json`. Blender 3.3 or newer.

This file stands alone. It uses Blender's Python interface, which is GPL, so it may be used under
the GPL too; lorakit does not import it, but speaks with it through a pipe, a line of JSON a request
and a line a reply. LOOK.json: samples, device, toon, lights (as in lights.py).

Outside of Blender y is up and z to the front; inside z is up. Everything that passes the pipe has
y up.
"""

import builtins
import contextlib
import json
import math
import os
import sys

import bpy
from mathutils import Matrix, Vector

try:
    import numpy as np
except ImportError:  # Debian's Blender comes without; its glTF importer needs it as well
    np = None
for _name in ("bool", "int", "float", "object"):
    # Debian 12 puts Blender 3.4 and numpy 1.24 together, which took these names away
    if np is not None and _name not in vars(np):
        setattr(np, _name, getattr(builtins, _name))

HULL = 400  # directions in which the farthest point is reported
SAMPLE = 2000  # other points reported of each mesh
LAMP = 1.3  # watts a square metre of a sun of strength 1
DRAFT_SAMPLES = 4
Y_UP = Matrix(((1, 0, 0, 0), (0, 0, 1, 0), (0, -1, 0, 0), (0, 0, 0, 1)))  # from Blender's z up
SHAPES = ("MESH", "CURVE", "SURFACE", "META", "FONT")


class Refused(Exception):
    """What cannot be done, as a sentence."""


def importers(path):
    """The operators that may open the file, with their options, the newest first."""
    kind = os.path.splitext(path)[1].lower()
    table = {
        ".glb": [("import_scene.gltf", {})],
        ".gltf": [("import_scene.gltf", {})],
        ".fbx": [("import_scene.fbx", {}), ("wm.fbx_import", {})],
        ".dae": [("wm.collada_import", {})],
        ".obj": [("wm.obj_import", {}), ("import_scene.obj", {})],
        ".stl": [("wm.stl_import", {}), ("import_mesh.stl", {})],
        ".ply": [("wm.ply_import", {}), ("import_mesh.ply", {})],
        ".abc": [("wm.alembic_import", {"as_background_job": False})],
        ".x3d": [("import_scene.x3d", {})],
        ".pmx": [("mmd_tools.import_model", {})],
        ".pmd": [("mmd_tools.import_model", {})],
    }
    if bpy.app.version < (3, 6):  # its new reader makes materials half transparent
        table[".obj"].reverse()
    for usd in (".usd", ".usdc", ".usdz"):
        table[usd] = [("wm.usd_import", {})]
    return table.get(kind, [])


def open_file(file, up="y"):
    """Loads the model alone; says what rig and animations there are."""
    if np is None:
        raise Refused("Blender's Python lacks numpy; run: apt-get install -y python3-numpy")
    if file.lower().endswith(".blend"):
        bpy.ops.wm.open_mainfile(filepath=file, load_ui=False, use_scripts=False)
    else:
        bpy.ops.wm.read_homefile(use_empty=True)
        run_importer(file)
        turn_up(file, up)
    rig = armature()
    hide_others(rig)
    return {"joints": joints(rig), "clips": clips(), "version": bpy.app.version_string}


def run_importer(file):
    for name, options in importers(file):
        group, operator = name.split(".")
        call = getattr(getattr(bpy.ops, group), operator)
        try:
            call.get_rna_type()
        except (KeyError, AttributeError):
            continue  # this version of Blender has another one
        call(filepath=file, **options)
        return
    raise Refused(
        f"Blender {bpy.app.version_string} has no importer for {os.path.splitext(file)[1]} files; "
        "install the add-on for them, or convert the file to .glb."
    )


def turn_up(file, up):
    """Importers stand a model upright where the format says how; .stl and .ply come as they are,
    .obj is taken for y up."""
    kind = os.path.splitext(file)[1].lower()
    degrees = 90 if kind in (".stl", ".ply") and up == "y" else 0
    degrees = -90 if kind == ".obj" and up == "z" else degrees
    for thing in bpy.context.scene.objects if degrees else ():
        if thing.parent is None:
            thing.matrix_world = Matrix.Rotation(math.radians(degrees), 4, "X") @ thing.matrix_world


def armature():
    """The armature with the most bones, or None."""
    rigs = [thing for thing in bpy.context.scene.objects if thing.type == "ARMATURE"]
    return max(rigs, key=lambda rig: len(rig.data.bones), default=None)


def hide_others(rig):
    """Lights go, ours come; beside a rig, what does not hang on it (floors, walls) is hidden."""
    scene = bpy.context.scene
    shapes = [thing for thing in scene.objects if thing.type in SHAPES]
    own = [thing for thing in shapes if rig and belongs(thing, rig)]
    for thing in scene.objects:
        if thing.type == "LIGHT" or (own and thing.type in SHAPES and thing not in own):
            thing.hide_render = True


def belongs(thing, rig):
    if any(m.type == "ARMATURE" and m.object == rig for m in thing.modifiers):
        return True
    while thing.parent:
        thing = thing.parent
        if thing == rig:
            return True
    return False


def rows(matrix):
    return [list(row) for row in Y_UP @ matrix]


def joints(rig):
    """The armature itself, then its bones in their rest pose: name, parent, place in the world."""
    if rig is None:
        return []
    bones = list(rig.data.bones)
    number = {bone.name: index for index, bone in enumerate(bones, 1)}
    found = [{"name": "", "parent": -1, "world": rows(rig.matrix_world)}]
    for bone in bones:
        parent = number[bone.parent.name] if bone.parent else 0
        world = rows(rig.matrix_world @ bone.matrix_local)
        found.append({"name": bone.name, "parent": parent, "world": world})
    return found


def clips():
    """Name, first and last second of each action."""
    scene = bpy.context.scene
    rate = scene.render.fps / scene.render.fps_base
    return [
        [action.name, action.frame_range[0] / rate, action.frame_range[1] / rate]
        for action in bpy.data.actions
    ]


def stand(turns=None, clip=-1, time=0.0):
    """Puts the person up. `turns`: new rotation in its parent, 3x3, by bone; or second `time` of
    action number `clip`; or neither, as the file has it. Says what is where."""
    rig = armature()
    if turns:
        pose(rig, turns)
    elif clip >= 0:
        play(rig, clip, time)
    bpy.context.view_layer.update()
    points = extent()
    if len(points) == 0:
        raise Refused("there is no mesh in it that is rendered: nothing would be seen.")
    places = {}
    for bone in rig.pose.bones if rig else ():
        places[bone.name] = list((Y_UP @ rig.matrix_world @ bone.matrix).translation)
    return {"points": points.tolist(), "places": places}


def pose(rig, turns):
    """Sets every bone to rest, then turns those that are given."""
    rig.animation_data_clear()
    rig.data.pose_position = "POSE"
    for bone in rig.pose.bones:
        for constraint in bone.constraints:
            constraint.mute = True  # else they pull the bones back
        bone.matrix_basis = Matrix()
        if bone.name in turns:
            own = bone.bone
            rest = (
                own.parent.matrix_local.inverted() @ own.matrix_local
                if own.parent
                else own.matrix_local
            )
            turn = rest.to_3x3().normalized().inverted() @ Matrix(turns[bone.name])
            bone.rotation_mode = "QUATERNION"
            bone.rotation_quaternion = turn.to_quaternion()


def play(rig, clip, time):
    scene, action = bpy.context.scene, bpy.data.actions[clip]
    holders = [rig] if rig else [thing for thing in scene.objects if thing.animation_data]
    for holder in holders:
        data = holder.animation_data_create()
        for track in data.nla_tracks:
            track.mute = True
        data.action = action
        if hasattr(data, "action_slot") and len(action.slots):  # Blender 4.4 and newer
            data.action_slot = action.slots[0]
    frame = time * scene.render.fps / scene.render.fps_base
    scene.frame_set(int(frame), subframe=frame - int(frame))


def extent():
    """The farthest points of everything that is rendered, in many directions, y up."""
    graph = bpy.context.evaluated_depsgraph_get()
    number = np.arange(HULL) + 0.5
    y, turn = 1 - 2 * number / HULL, number * math.pi * (3 - math.sqrt(5))
    aside = np.sqrt(1 - y * y)
    around = np.stack([aside * np.cos(turn), y, aside * np.sin(turn)], axis=1)
    found = []
    for instance in graph.object_instances:
        thing = instance.object
        if thing.type not in SHAPES or thing.original.hide_render:
            continue
        mesh = thing.to_mesh()
        if mesh is not None and len(mesh.vertices):
            points = np.empty(len(mesh.vertices) * 3, np.float32)
            mesh.vertices.foreach_get("co", points)
            world = np.array(Y_UP @ instance.matrix_world)
            points = points.reshape(-1, 3) @ world[:3, :3].T + world[:3, 3]
            # those between say where a head is that no raised hand is part of
            some = np.arange(0, len(points), max(1, len(points) // SAMPLE))
            found.append(points[np.union1d((points @ around.T).argmax(0), some)])
        thing.to_mesh_clear()
    return np.concatenate(found) if found else np.zeros((0, 3))


def draw(camera, out, draft=False):
    """Writes the picture as PNG with transparency."""
    scene = bpy.context.scene
    prepare(scene)
    eye = aim(scene, camera)
    scene.camera = eye
    if LOOK["toon"]:
        cartoon(scene, camera["size"])
    render = scene.render
    render.resolution_x, render.resolution_y = camera["size"]
    render.filepath = out
    scene.cycles.samples = DRAFT_SAMPLES if draft else LOOK["samples"]
    bpy.ops.render.render(write_still=True)
    return {"device": scene.cycles.device}


def prepare(scene):
    """Cycles, nothing behind the person, colours as they are."""
    if scene.get("lorakit"):
        return
    scene["lorakit"] = True
    render, cycles = scene.render, scene.cycles
    render.engine = "CYCLES"
    render.film_transparent = True
    render.resolution_percentage = 100
    render.use_border = render.use_compositing = render.use_sequencer = False
    render.image_settings.file_format = "PNG"
    render.image_settings.color_mode, render.image_settings.color_depth = "RGBA", "8"
    scene.view_settings.view_transform, scene.view_settings.look = "Standard", "None"
    scene.view_settings.exposure, scene.view_settings.gamma = 0.0, 1.0
    cycles.max_bounces, cycles.transparent_max_bounces = 3, 24
    cycles.use_denoising = bool(getattr(bpy.app.build_options, "openimagedenoise", False))
    cycles.device = "GPU" if LOOK["device"] != "cpu" and graphics_card() else "CPU"
    if LOOK["device"] == "gpu" and cycles.device == "CPU":
        raise Refused("Blender finds no graphics card to render on; choose device auto or cpu.")
    scene.world = bpy.data.worlds.new("lorakit")
    scene.world.use_nodes = True
    grey = scene.world.node_tree.nodes.get("Background")
    grey.inputs["Color"].default_value = (1, 1, 1, 1)
    grey.inputs["Strength"].default_value = 0.3


def graphics_card():
    """Whether Cycles has a graphics card, switched on."""
    preferences = bpy.context.preferences.addons["cycles"].preferences
    for kind in ("OPTIX", "CUDA", "HIP", "ONEAPI", "METAL"):
        try:
            preferences.compute_device_type = kind
        except TypeError:  # not built for this kind
            continue
        preferences.get_devices()
        found = [device for device in preferences.devices if device.type == kind]
        for device in preferences.devices:
            device.use = device.type == kind
        if found:
            return True
    return False


def aim(scene, camera):
    """Our camera with its lamps, put in place."""
    eye = bpy.data.objects.get("lorakit camera")
    if eye is None:
        eye = bpy.data.objects.new("lorakit camera", bpy.data.cameras.new("lorakit camera"))
        scene.collection.objects.link(eye)
        for lamp in LOOK["lights"]:
            hang(scene, eye, *lamp)
    down = Y_UP.inverted()
    place, target, up = (down @ Vector(camera[key]) for key in ("position", "target", "up"))
    back = (place - target).normalized()
    right = up.cross(back).normalized()
    turn = Matrix((right, back.cross(right), back)).transposed()
    eye.matrix_world = Matrix.Translation(place) @ turn.to_4x4()
    lens, away = eye.data, (place - target).length
    lens.sensor_fit = "VERTICAL"
    lens.lens = lens.sensor_height / (2 * math.tan(math.radians(camera["angle"]) / 2))
    lens.clip_start, lens.clip_end = away / 1000, away * 100
    return eye


def hang(scene, eye, direction, strength):
    """A sun that goes round with the camera."""
    lamp = bpy.data.objects.new("lorakit lamp", bpy.data.lights.new("lorakit lamp", "SUN"))
    lamp.data.energy = strength * LAMP
    lamp.data.angle = math.radians(8)
    lamp.parent = eye
    lamp.matrix_local = Vector(direction).to_track_quat("Z", "Y").to_matrix().to_4x4()
    scene.collection.objects.link(lamp)


def cartoon(scene, size):
    """Two tones a colour, and dark lines around."""
    if scene.get("lorakit cartoon"):
        return
    scene["lorakit cartoon"] = True
    for material in bpy.data.materials:
        if not material.is_grease_pencil:
            flat_tones(material)
    scene.render.use_freestyle = True
    scene.render.line_thickness_mode = "ABSOLUTE"
    scene.render.line_thickness = max(1.0, max(size) / 350)
    layer = bpy.context.view_layer
    layer.use_freestyle = True
    settings = layer.freestyle_settings
    lines = settings.linesets[0] if len(settings.linesets) else settings.linesets.new("lorakit")
    lines.select_silhouette = lines.select_border = True
    if lines.linestyle is None:
        lines.linestyle = bpy.data.linestyles.new("lorakit")
    lines.linestyle.color = (0.06, 0.04, 0.05)


def flat_tones(material):
    """Replaces a material's shading by two tones of its own colour or texture; holes stay."""
    colour = list(material.diffuse_color)
    material.use_nodes = True
    tree = material.node_tree
    principled = next((node for node in tree.nodes if node.type == "BSDF_PRINCIPLED"), None)
    output = next((node for node in tree.nodes if node.type == "OUTPUT_MATERIAL"), None)
    output = output or tree.nodes.new("ShaderNodeOutputMaterial")
    toon, glow, both = (
        tree.nodes.new(kind)
        for kind in ("ShaderNodeBsdfToon", "ShaderNodeEmission", "ShaderNodeAddShader")
    )
    toon.inputs["Size"].default_value, toon.inputs["Smooth"].default_value = 0.75, 0.03
    glow.inputs["Strength"].default_value = 0.3
    for node in (toon, glow):
        feed(tree, principled, "Base Color", node.inputs["Color"], colour)
        tree.links.new(node.outputs[0], both.inputs[0 if node == toon else 1])
    clear, mix = tree.nodes.new("ShaderNodeBsdfTransparent"), tree.nodes.new("ShaderNodeMixShader")
    feed(tree, principled, "Alpha", mix.inputs[0], 1.0)
    tree.links.new(clear.outputs[0], mix.inputs[1])
    tree.links.new(both.outputs[0], mix.inputs[2])
    tree.links.new(mix.outputs[0], output.inputs["Surface"])


def feed(tree, principled, name, target, otherwise):
    """Gives `target` what the principled shader has as input `name`."""
    source = principled.inputs.get(name) if principled else None
    if source is not None and source.links:
        tree.links.new(source.links[0].from_socket, target)
    else:
        target.default_value = source.default_value if source is not None else otherwise


def serve():
    """Answers requests until the input ends. What Blender prints goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = {"open": open_file, "stand": stand, "draw": draw}[request.pop("do")](**request)
        except Refused as error:
            reply = {"error": str(error)}
        except Exception as error:  # said to the other side, which knows the file
            lines = str(error).strip().splitlines()
            said = [line for line in lines if line and not line.startswith("Location:")]
            last = said[-1][:200] if said else type(error).__name__
            reply = {"error": f"Blender cannot do it ({last})"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


with open(sys.argv[sys.argv.index("--") + 1], encoding="utf-8") as file:
    LOOK = json.load(file)
with contextlib.suppress(KeyboardInterrupt):
    serve()
