"""From fragments to linear light: skin, lips, brows, hair, eyes, teeth.

Skin is a two-pigment model (melanin and haemoglobin absorb as Beer-Lambert layers over a pale base, after Tsumura et
al. 1999), lit by a key light with wrapped diffuse per channel (a cheap stand-in for subsurface scattering: red light
travels furthest), a hemisphere and a fill light, and a Blinn-Phong sheen.

Layout: values are planar, (channels, N) for N visible points, which is what the processor's vector units like.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_faces.rendering.camera import View
from lit_faces.rendering.muscles import JAW_PIVOT
from lit_faces.rendering.sampler import Frames, People, Scenes
from lit_faces.rendering.skin import CHANNEL

_SKIN_BASE = (0.90, 0.77, 0.68)
_MELANIN = (0.46, 0.84, 1.22)
_BLOOD = (0.10, 0.60, 0.50)
#: Much melanin absorbs all colours alike and veils the blood below it: dark skin is brown, not orange.
_GREY, _VEIL = 0.5, 0.4
_WRAP = (0.30, 0.17, 0.12)
_IRIS_ANGLE, _PUPIL_ANGLE = 0.41, 0.155  # radians on the eyeball


@dataclass
class Surface:
    """Interpolated attributes of N visible points.

    Attributes:
        item: int64 (N,), index of the picture.
        normal: (3, N) camera space, unit.
        position: (3, N) object space, mm.
        lit: (N,), 1 in the key light, 0 in its shadow.
        texel: (C, N) channels of ``skin.CHANNELS``.
    """

    item: Tensor
    normal: Tensor
    position: Tensor
    lit: Tensor
    texel: Tensor

    def pick(self, index: Tensor) -> Surface:
        """The points at ``index`` (n,)."""
        return Surface(
            self.item[index], self.normal[:, index], self.position[:, index], self.lit[index], self.texel[:, index]
        )


def _gather(values: Tensor, item: Tensor) -> Tensor:
    """Per-picture values (B, K) or (B,) to per-point values (K, N) or (N,)."""
    if values.ndim == 1:
        return values.index_select(0, item)
    return values.t().contiguous().index_select(1, item)


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values)[:, None]


def _unit(v: Tensor, floor: float = 1e-6) -> Tensor:
    return v / v.square().sum(0).sqrt().clamp(min=floor)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _rotate(rotation: Tensor, item: Tensor, v: Tensor) -> Tensor:
    """Rotate points (3, N) by their picture's matrix (B, 3, 3)."""
    m = _gather(rotation.reshape(-1, 9), item)
    return torch.stack([m[3 * k] * v[0] + m[3 * k + 1] * v[1] + m[3 * k + 2] * v[2] for k in range(3)])


def _perturb(surface: Surface, rotation: Tensor) -> Tensor:
    """Tilt normals by the relief's slopes."""
    n = surface.normal
    up = _gather(rotation[:, :, 1], surface.item)
    tangent = _unit(_cross(up, n), 0.2)
    other = _cross(n, tangent)
    sx = surface.texel[CHANNEL["slope_x"]].clamp(-1.5, 1.5)
    sy = surface.texel[CHANNEL["slope_y"]].clamp(-1.5, 1.5)
    return _unit(n - sx * tangent - sy * other)


def _albedo(surface: Surface, people: People) -> tuple[Tensor, Tensor]:
    """Diffuse colour (3, N) and sheen (N,) of skin with lips, brows, lashes, beard and hair."""
    t, c = surface.texel, CHANNEL
    table = torch.cat(
        [
            people.melanin[:, None],
            people.blood[:, None],
            people.lipstick,
            people.gloss[:, None],
            people.lashes,
            people.hair_colour,
            people.cloth,
        ],
        1,
    )
    p = _gather(table, surface.item)
    melanin = (p[0] + (p[0].clamp(max=0.8) + 0.30) * t[c["melanin"]]).clamp(0.02, 5.0)
    blood = (p[1] + t[c["blood"]]).clamp(0.05, 2.0) / (1 + _VEIL * melanin)
    hue, grey = melanin / (1 + 0.5 * melanin), _GREY * melanin.square() / (1 + melanin)
    colour = _column(_SKIN_BASE, t) * torch.exp(-hue * _column(_MELANIN, t) - grey - blood * _column(_BLOOD, t))
    lips = t[c["lips"]].clamp(0, 1)
    colour = colour + (p[2:5] - colour) * (lips * p[5])
    gloss = p[6] * (1 + 0.9 * lips)
    strand, hair_colour = t[c["strand"]], p[10:13]
    beard = (t[c["beard"]] * (1.0 + 0.35 * strand)).clamp(0, 1)
    brow = torch.sigmoid(t[c["brow"]] / 0.7) * (0.88 + 0.10 * strand).clamp(0.5, 1.0)
    hair = torch.sigmoid(t[c["hair"]] / 1.6 + 0.6 * strand)
    lash = (1.4 * p[7] * t[c["lash"]]).clamp(0, 1) * (1 - hair)
    colour = colour * ((1 - 0.55 * t[c["makeup"]].clamp(0, 1) * p[8]) * (1 - 0.96 * lash))
    colour = colour + (hair_colour * (0.9 + 0.25 * strand) - colour) * (0.72 * beard)
    colour = colour + (hair_colour * 0.6 - colour) * (brow * p[9])
    colour = colour + (hair_colour * (1 + 0.32 * strand).clamp(0.3, 2.0) - colour) * hair
    cloth = t[c["cloth"]].clamp(0, 1)
    colour = colour + (p[13:16] * (1 + 0.08 * strand) - colour) * cloth
    gloss = gloss * (1 - 0.75 * brow) * (1 - 0.8 * beard) * (1 - 0.35 * hair) * (1 - cloth) * (1 - lash)
    return colour, gloss


def _light(
    normal: Tensor, lit: Tensor, occlusion: Tensor, item: Tensor, scenes: Scenes, gloss: Tensor | None, colour: Tensor
) -> Tensor:
    """Reflected light (3, N)."""
    p = _gather(torch.cat([scenes.light, scenes.key, scenes.sky, scenes.ground, scenes.fill], 1), item)
    light, key, sky, ground, fill = p[:3], p[3:6], p[6:9], p[9:12], p[12:15]
    facing = (normal * light).sum(0)
    wrap = _column(_WRAP, normal)
    diffuse = ((facing + wrap) / (1 + wrap)).clamp_(min=0)
    open_ = torch.exp(-occlusion.clamp(min=0))
    shadow = lit + (0.6 * wrap) * (lit.sqrt() - lit)
    ambient = ground + (sky - ground) * (0.5 + 0.5 * normal[1])
    mirrored = (normal[2] * light[2] - normal[0] * light[0] + 0.4 * normal[1] * light[1]).clamp_(min=0)
    out = colour * (key * diffuse * shadow * (0.35 + 0.65 * open_) + (ambient + fill * mirrored) * open_)
    if gloss is None:
        return out
    dot = (facing + normal[2]) / (2 + 2 * light[2]).clamp(min=1e-3).sqrt()
    spec = dot.clamp_(min=1e-4).log_()
    rim = (1 - normal[2].clamp(0, 1)).square().square()
    sheen = gloss * (0.15 * torch.exp(26 * spec) + 0.05 * torch.exp(8 * spec)) * lit * open_
    return out + sheen * key + (rim * gloss * open_ * 0.10) * ambient


def _eyes(surface: Surface, people: People, frames: Frames, scenes: Scenes, eyes: Tensor, rotation: Tensor) -> Tensor:
    """Reflected light (3, N) of eyeball points."""
    i = surface.item
    left = surface.position[0] > 0
    centre = torch.where(left, _gather(eyes[:, 1], i), _gather(eyes[:, 0], i))
    out = _unit(surface.position - centre)
    gaze = torch.deg2rad(_gather(frames.gaze, i))
    gx, gy = gaze[0] + torch.where(left, -0.03, 0.03), gaze[1]  # the eyes converge a little
    axis = torch.stack([gx.sin() * gy.cos(), gy.sin(), gx.cos() * gy.cos()])
    angle = torch.acos((out * axis).sum(0).clamp(-0.9999, 0.9999))
    around = torch.atan2(out[1] - axis[1], out[0] - axis[0])
    phase = _gather(people.iris_phase, i)
    streaks = (
        0.5 * torch.sin(17 * around + phase[0])
        + 0.35 * torch.sin(31 * around + phase[1])
        + 0.3 * torch.sin(7 * around + phase[2])
    )
    iris_edge = torch.sigmoid((_IRIS_ANGLE - angle) / 0.02)
    pupil = torch.sigmoid((_PUPIL_ANGLE - angle) / 0.018)
    limbus = torch.exp(-(((angle - _IRIS_ANGLE + 0.03) / 0.05) ** 2))
    iris = _gather(people.iris, i) * (
        (1.15 + 0.35 * streaks) * (1 + 0.6 * torch.exp(-(((angle - 0.21) / 0.06) ** 2))) * (1 - 0.75 * limbus)
    )
    sclera = _column((0.54, 0.495, 0.47), out) * (1 - 0.16 * torch.sigmoid((angle - 0.8) / 0.1))
    colour = sclera + (iris - sclera) * iris_edge
    colour = colour * (1 - pupil) + 0.004 * pupil
    normal = _rotate(rotation, i, out)
    occlusion = surface.texel[CHANNEL["occlusion"]].clamp(min=0)
    shaded = _light(normal, surface.lit, occlusion, i, scenes, None, colour)
    # the cornea bulges: its catchlight sits near the pupil
    cornea = _unit(normal + 0.9 * (normal - _rotate(rotation, i, axis)) * (angle < 0.5))
    half = _unit(_gather(scenes.light, i) + _column((0.0, 0.0, 1.0), out))
    spark = (
        torch.exp(130 * (cornea * half).sum(0).clamp(min=1e-4).log())
        * (0.25 + 0.75 * surface.lit)
        * torch.exp(-occlusion)
    )
    return shaded + spark * (0.8 * _gather(scenes.key, i) + 0.4 * _gather(scenes.sky, i))


def _mouth(surface: Surface, scenes: Scenes, jaw: Tensor) -> Tensor:
    """Reflected light (3, N) inside the mouth: teeth, tongue, dark."""
    i, (x, y, _) = surface.item, surface.position
    arch = 1 - (x / 27.0).clamp(-1, 1) ** 2
    edge = -72.6 + 1.6 * (x / 20.0) ** 2
    upper = torch.sigmoid((y - edge) / 0.35) * (x.abs() < 23).float()
    angle = jaw[i]
    down, out = -73.0 - JAW_PIVOT[1], -2.0 - JAW_PIVOT[2]  # the lower incisors' edge, seen from the jaw's joint
    lower_edge = JAW_PIVOT[1] + down * angle.cos() - out * angle.sin() - 1.2 * (x / 18.0) ** 2
    lower = torch.sigmoid((lower_edge - y) / 0.35) * (x.abs() < 20).float()
    gap = torch.exp(-(((((x / 7.6) % 1.0) - 0.5).abs() - 0.5) ** 2) / 0.0016)
    ivory = _column((0.66, 0.60, 0.51), x) * (1 - 0.28 * gap)
    tongue_top = lower_edge + 3.5 + 4.0 * (1 - (x / 16).clamp(-1, 1) ** 2)
    tongue = torch.sigmoid((tongue_top - y) / 1.2) * torch.sigmoid((angle - 0.065) / 0.02)
    back = _column((0.055, 0.012, 0.012), x)
    flesh = back + (_column((0.30, 0.075, 0.075), x) - back) * tongue
    colour = (flesh + (ivory - flesh) * torch.maximum(upper, lower)) * (0.25 + 0.75 * arch.clamp(min=0))
    open_ = 0.55 + 0.45 * torch.sigmoid((edge + 9 - y) / 2.0)
    room = 0.30 * (_gather(scenes.sky, i) + _gather(scenes.ground, i))
    return colour * open_ * (0.62 * _gather(scenes.key, i) * _gather(scenes.light[:, 2].clamp(min=0), i) + room)


def shade(
    surface: Surface, people: People, scenes: Scenes, frames: Frames, view: View, eyes: Tensor, jaw: Tensor
) -> Tensor:
    """Linear RGB (3, N) of all visible points.

    Args:
        surface: what is visible.
        people: who (batched as the pictures).
        scenes: in which light.
        frames: doing what.
        view: the camera.
        eyes: centres of the eyeballs, mm (B, 2, 3).
        jaw: jaw opening, radians (B,).
    """
    colour, gloss = _albedo(surface, people)
    normal = _perturb(surface, view.rotation)
    out = _light(normal, surface.lit, surface.texel[CHANNEL["occlusion"]], surface.item, scenes, gloss, colour)
    for name in ("eye", "mouth"):
        mask = surface.texel[CHANNEL[name]]
        hit = (mask > 0.02).nonzero().squeeze(1)
        if not len(hit):
            continue
        part = surface.pick(hit)
        paint = _eyes(part, people, frames, scenes, eyes, view.rotation) if name == "eye" else _mouth(part, scenes, jaw)
        out[:, hit] = torch.lerp(out[:, hit], paint, mask[hit].clamp(0, 1))
    return out
