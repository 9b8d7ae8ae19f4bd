"""From fragments to linear light: skin, lips, brows, hair, eyes, teeth.

Skin is a two-pigment model (melanin and haemoglobin absorb as Beer-Lambert layers over a pale base, after Tsumura et
al. 1999), lit by a key light with wrapped diffuse per channel (a cheap stand-in for subsurface scattering: red light
travels furthest), a hemisphere and a fill light, and a Blinn-Phong sheen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_faces.rendering.camera import View
from lit_faces.rendering.sampler import Frames, People, Scenes
from lit_faces.rendering.skin import CHANNEL

_SKIN_BASE = (0.88, 0.76, 0.67)
_MELANIN = (0.46, 0.86, 1.28)
_BLOOD = (0.10, 0.62, 0.52)
_WRAP = (0.30, 0.16, 0.11)
_IRIS_ANGLE, _PUPIL_ANGLE = 0.415, 0.145  # radians on the eyeball


@dataclass
class Surface:
    """Interpolated attributes of N visible points.

    Attributes:
        item: int64 (N,), index of the picture.
        normal: (N, 3) camera space, unit.
        position: (N, 3) object space, mm.
        lit: (N,), 1 in the key light, 0 in its shadow.
        texel: (N, C) channels of ``skin.CHANNELS``.
    """

    item: Tensor
    normal: Tensor
    position: Tensor
    lit: Tensor
    texel: Tensor


def _perturb(surface: Surface, rotation: Tensor) -> Tensor:
    """Tilt normals by the relief's slopes."""
    n = surface.normal
    up = rotation[:, :, 1][surface.item]
    tangent = torch.linalg.cross(up, n)
    tangent = tangent / tangent.norm(dim=1, keepdim=True).clamp(min=0.2)
    other = torch.linalg.cross(n, tangent)
    sx = surface.texel[:, CHANNEL["slope_x"], None].clamp(-1.6, 1.6)
    sy = surface.texel[:, CHANNEL["slope_y"], None].clamp(-1.6, 1.6)
    return torch.nn.functional.normalize(n - sx * tangent - sy * other, dim=1)


def _albedo(surface: Surface, people: People) -> tuple[Tensor, Tensor]:
    """Diffuse colour (N, 3) and sheen (N,) of skin with lips, brows, lashes, beard and hair."""
    i, t = surface.item, surface.texel
    c = CHANNEL
    melanin = (people.melanin[i] * (1 + t[:, c["melanin"]]) + 0.35 * t[:, c["melanin"]]).clamp(0.02, 3.5)[:, None]
    blood = (people.blood[i] + t[:, c["blood"]]).clamp(0.05, 2.0)[:, None]
    make = t.new_tensor
    colour = make(_SKIN_BASE) * torch.exp(-melanin * make(_MELANIN) - blood * make(_BLOOD))
    lips = t[:, c["lips"], None].clamp(0, 1)
    stick = people.lipstick[i]
    colour = torch.lerp(colour, stick[:, :3], lips * stick[:, 3:4])
    gloss = people.gloss[i] * (1 + 0.9 * lips[:, 0])
    lash = people.lashes[i]
    colour = colour * (1 - 0.55 * t[:, c["makeup"], None].clamp(0, 1) * lash[:, 1:2])
    strand = t[:, c["strand"]]
    beard = (t[:, c["beard"]] * (1.0 + 0.35 * strand)).clamp(0, 1)[:, None]
    hair_colour = people.hair_colour[i]
    colour = torch.lerp(colour, hair_colour * (1 + 0.25 * strand[:, None]), 0.82 * beard * (beard > 0.55) + 0.62 * beard * (beard <= 0.55))
    brow = torch.sigmoid(t[:, c["brow"]] / 0.6) * (0.74 + 0.22 * strand).clamp(0.2, 1.0)
    colour = torch.lerp(colour, hair_colour * 0.8, brow[:, None] * 0.86)
    hair = torch.sigmoid(t[:, c["hair"]] / 1.6 + 0.7 * strand)[:, None]
    colour = torch.lerp(colour, hair_colour * (1 + 0.38 * strand[:, None]).clamp(0.25, 2.2), hair)
    dark = (t[:, c["lash"]].clamp(0, 1) * lash[:, 0] * (1 - hair[:, 0]))[:, None]
    colour = colour * (1 - 0.9 * dark)
    gloss = gloss * (1 - 0.75 * brow) * (1 - beard[:, 0]) * (1 - 0.35 * hair[:, 0])
    return colour, gloss


def _light(normal: Tensor, lit: Tensor, occlusion: Tensor, i: Tensor, scenes: Scenes, gloss: Tensor, colour: Tensor) -> Tensor:
    """Reflected light (N, 3)."""
    light = scenes.light[i]
    facing = (normal * light).sum(1, keepdim=True)
    wrap = normal.new_tensor(_WRAP)
    diffuse = ((facing + wrap) / (1 + wrap)).clamp(min=0)
    shadow = lit[:, None] * (1 - wrap * 0.6) + wrap * 0.6 * lit[:, None].sqrt()
    open_ = torch.exp(-occlusion.clamp(min=0))[:, None]
    half_up = 0.5 + 0.5 * normal[:, 1:2]
    ambient = scenes.ground[i] + (scenes.sky[i] - scenes.ground[i]) * half_up
    mirrored = (normal * (light * light.new_tensor([-1.0, 0.4, 1.0]))).sum(1, keepdim=True).clamp(min=0)
    out = colour * (scenes.key[i] * diffuse * shadow * (0.35 + 0.65 * open_) + (ambient + scenes.fill[i] * mirrored) * open_)
    half = light + light.new_tensor([0.0, 0.0, 1.0])
    half = half / half.norm(dim=1, keepdim=True)
    spec = (normal * half).sum(1).clamp(min=1e-4).log()
    rim = (1 - normal[:, 2].clamp(0, 1)) ** 4
    sheen = gloss * (0.14 * torch.exp(26 * spec) + 0.05 * torch.exp(8 * spec)) * lit
    return out + sheen[:, None] * scenes.key[i] * open_ + (rim * gloss * 0.10)[:, None] * ambient * open_


def _eyes(surface: Surface, people: People, frames: Frames, scenes: Scenes, eyes: Tensor, rotation: Tensor) -> Tensor:
    """Reflected light (N, 3) of eyeball points."""
    i = surface.item
    side = (surface.position[:, 0] > 0).long()
    out = torch.nn.functional.normalize(surface.position - eyes[i, side], dim=1)
    gaze = torch.deg2rad(frames.gaze[i])
    # the optical axes converge a little; each eye looks along (right, up)
    toe = torch.where(side == 1, -0.03, 0.03)
    gx, gy = gaze[:, 0] + toe, gaze[:, 1]
    axis = torch.stack([gx.sin() * gy.cos(), gy.sin(), gx.cos() * gy.cos()], 1)
    angle = torch.acos((out * axis).sum(1).clamp(-0.9999, 0.9999))
    around = torch.atan2(out[:, 1] - axis[:, 1], out[:, 0] - axis[:, 0])
    phase = people.iris_phase[i]
    streaks = 0.5 * torch.sin(17 * around + phase[:, 0]) + 0.35 * torch.sin(31 * around + phase[:, 1]) + 0.3 * torch.sin(7 * around + phase[:, 2])
    iris_edge = torch.sigmoid((_IRIS_ANGLE - angle) / 0.022)[:, None]
    pupil = torch.sigmoid((_PUPIL_ANGLE - angle) / 0.018)[:, None]
    limbus = torch.exp(-(((angle - _IRIS_ANGLE + 0.03) / 0.05) ** 2))
    iris = people.iris[i] * (1.15 + 0.35 * streaks)[:, None] * (1 + 0.6 * torch.exp(-(((angle - 0.20) / 0.06) ** 2)))[:, None]
    iris = iris * (1 - 0.75 * limbus)[:, None]
    sclera = out.new_tensor([0.66, 0.60, 0.57]) * (1 - 0.16 * torch.sigmoid((angle - 0.8) / 0.1))[:, None]
    colour = torch.lerp(torch.lerp(sclera, iris, iris_edge), iris.new_tensor([0.004, 0.004, 0.004]), pupil)
    normal = (rotation[i] @ out[:, :, None]).squeeze(2)
    occlusion = surface.texel[:, CHANNEL["occlusion"]].clamp(min=0)
    shaded = _light(normal, surface.lit, occlusion, i, scenes, torch.zeros_like(angle), colour)
    # the cornea bulges: its catchlight sits near the pupil
    axis_camera = (rotation[i] @ axis[:, :, None]).squeeze(2)
    cornea = torch.nn.functional.normalize(normal + 0.9 * (normal - axis_camera) * (angle < 0.5)[:, None], dim=1)
    half = torch.nn.functional.normalize(scenes.light[i] + out.new_tensor([0.0, 0.0, 1.0]), dim=1)
    spark = torch.exp(150 * ((cornea * half).sum(1).clamp(min=1e-4)).log()) * (0.25 + 0.75 * surface.lit)
    return shaded + (spark * torch.exp(-occlusion))[:, None] * (0.5 * scenes.key[i] + 0.25 * scenes.sky[i])


def _mouth(surface: Surface, scenes: Scenes, jaw: Tensor) -> Tensor:
    """Reflected light (N, 3) inside the mouth: teeth, tongue, dark."""
    i, (x, y, _) = surface.item, surface.position.unbind(1)
    arch = 1 - (x / 27.0).clamp(-1, 1) ** 2
    edge = -72.6 + 1.6 * (x / 20.0) ** 2
    upper = torch.sigmoid((y - edge) / 0.35) * (x.abs() < 23).float()
    angle = jaw[i]
    lower_edge = -12.0 - 61.0 * angle.cos() - 83.0 * angle.sin() - 1.2 * (x / 18.0) ** 2
    lower = torch.sigmoid((lower_edge - y) / 0.35) * (x.abs() < 20).float()
    teeth = torch.maximum(upper, lower)[:, None]
    gap = torch.exp(-(((((x / 7.6) % 1.0) - 0.5).abs() - 0.5) ** 2) / 0.0016)
    ivory = x.new_tensor([0.66, 0.60, 0.50]) * (1 - 0.30 * gap)[:, None]
    tongue_top = lower_edge + 3.5 + 4.0 * (1 - (x / 16).clamp(-1, 1) ** 2)
    tongue = torch.sigmoid((tongue_top - y) / 1.2)[:, None] * torch.sigmoid((angle - 0.10) / 0.03)[:, None]
    back = x.new_tensor([0.055, 0.012, 0.012])
    flesh = torch.lerp(back.expand(len(x), 3), x.new_tensor([0.30, 0.075, 0.075]), tongue)
    colour = torch.lerp(flesh, ivory, teeth) * (0.25 + 0.75 * arch.clamp(min=0))[:, None]
    front = scenes.light[i, 2].clamp(min=0)[:, None]
    open_ = 0.55 + 0.45 * torch.sigmoid((edge + 9 - y) / 2.0)[:, None]
    return colour * open_ * (0.62 * scenes.key[i] * front + 0.60 * (scenes.sky[i] + scenes.ground[i]) * 0.5)


def shade(surface: Surface, people: People, scenes: Scenes, frames: Frames, view: View, eyes: Tensor, jaw: Tensor) -> Tensor:
    """Linear RGB (N, 3) of all visible points.

    Args:
        surface: what is visible.
        people, scenes, frames: what to draw (batched as the pictures).
        view: the camera.
        eyes: centres of the eyeballs, mm (B, 2, 3).
        jaw: jaw opening, radians (B,).
    """
    colour, gloss = _albedo(surface, people)
    normal = _perturb(surface, view.rotation)
    out = _light(normal, surface.lit, surface.texel[:, CHANNEL["occlusion"]], surface.item, scenes, gloss, colour)
    for name, paint in (("eye", None), ("mouth", None)):
        mask = surface.texel[:, CHANNEL[name]].clamp(0, 1)
        hit = (mask > 0.02).nonzero().squeeze(1)
        if not len(hit):
            continue
        part = Surface(*(getattr(surface, f)[hit] for f in ("item", "normal", "position", "lit", "texel")))
        paint = _eyes(part, people, frames, scenes, eyes, view.rotation) if name == "eye" else _mouth(part, scenes, jaw)
        out[hit] = torch.lerp(out[hit], paint, mask[hit, None])
    return out
