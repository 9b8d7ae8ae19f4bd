"""What to draw: people, scenes and frames from counter-based random numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_faces.core.facs import AU_INDEX, EMOTION_PROTOTYPES, EMOTIONS, NUM_AUS
from lit_faces.rendering.hair import BEARD_PARTS, BROW_STYLES, HAIR_STYLES, LONG_STYLES
from lit_faces.rendering.identity import EXTRA_MODES, MODES, TRAITS
from lit_faces.rendering.random import key, normal, uniform
from lit_faces.rendering.skin import SPOTS, STATIC_TRAITS, WRINKLED_AUS

_PERSON, _SCENE, _FRAME, _NOISE = 1, 2, 3, 4
#: Linear RGB of hair and iris, and how common they are.
_HAIR = (
    (0.012, 0.010, 0.009),
    (0.045, 0.026, 0.016),
    (0.10, 0.058, 0.032),
    (0.28, 0.18, 0.09),
    (0.17, 0.060, 0.022),
    (0.38, 0.37, 0.36),
)
_IRIS = ((0.045, 0.022, 0.012), (0.10, 0.052, 0.022), (0.10, 0.105, 0.045), (0.11, 0.17, 0.24), (0.15, 0.19, 0.20))


@dataclass
class People:
    """Identity of a batch: geometry, skin weights per texture group, colours, how the face moves."""

    shape: Tensor  # (B, K)
    melanin: Tensor  # (B,)
    blood: Tensor
    skin: dict[str, Tensor]
    hair_colour: Tensor  # (B, 3) linear RGB
    cloth: Tensor  # (B, 3)
    hair_volume: Tensor  # (B,) mm
    iris: Tensor  # (B, 3)
    iris_phase: Tensor  # (B, 4)
    gloss: Tensor  # (B,)
    lipstick: Tensor  # (B, 4) RGB and strength
    lashes: Tensor  # (B, 3) strength of lashes, of eye shadow, and density of the brows
    glasses: Tensor  # (B, 5) present, half width, half height, thickness (mm), shade
    amplitude: Tensor  # (B, 19)
    asymmetry: Tensor  # (B, 19)
    gamma: Tensor  # (B, 1)
    wrinkle: Tensor  # (B, W) per wrinkled AU and variant


@dataclass
class Scenes:
    """Light, background and camera of a batch."""

    light: Tensor  # (B, 3) unit, towards the key light, camera space
    key: Tensor  # (B, 3) colour times strength
    sky: Tensor  # (B, 3)
    ground: Tensor  # (B, 3)
    fill: Tensor  # (B, 3) colour of the fill from the other side
    distance: Tensor  # (B,)
    jitter: Tensor  # (B, 3)
    exposure: Tensor  # (B,)
    background: Tensor  # (B, 3, 8, 8)
    contrast: Tensor  # (B,)


@dataclass
class Frames:
    """Pose, Action Units and sensor of a batch."""

    pose: Tensor  # (B, 3)
    au: Tensor  # (B, 19)
    emotion: Tensor  # (B,)
    gaze: Tensor  # (B, 2) degrees: right, up
    blur: Tensor  # (B,) pixels of a 128-pixel crop
    noise: Tensor  # (B,)
    quality: Tensor  # (B,) JPEG quality
    noise_key: Tensor  # (B,) int64


def _skin_weights(z: Tensor, u: Tensor, sex: Tensor, age: Tensor, melanin: Tensor) -> dict[str, Tensor]:
    """Weights of the texture groups from normals ``z`` (B, 64) and uniforms ``u`` (B, 120)."""
    light = torch.sigmoid(4.0 * (0.8 - melanin))[:, None]
    hair_logits = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.4, 0.7, 0.7, 0.3], device=z.device).log()
    is_long = torch.tensor([i in LONG_STYLES for i in range(len(HAIR_STYLES))], device=z.device)
    hair_logits = hair_logits + torch.where(is_long, 3.0, -1.0) * -sex[:, None]
    hair = (hair_logits - (-u[:, :8].log()).log()).argmax(1)
    manly = z.new_tensor([style["thick"] - 1.0 for style in BROW_STYLES.values()])
    brow = torch.softmax(3.0 * z[:, 47 : 47 + len(BROW_STYLES)] + 2.2 * manly * sex[:, None], 1)
    spots = (u[:, 40 : 40 + SPOTS] > 0.91).float() * 0.8 * light
    freckles = ((u[:, 10:11] > 0.82).float() * light * u[:, 11:13]) * 0.5
    lined = torch.stack([_trait(u[:, 78 + i], share) for i, (share, _) in enumerate(STATIC_TRAITS.values())], 1)
    ages = z.new_tensor([aged for _, aged in STATIC_TRAITS.values()])
    static = lined * (1 - ages + ages * (0.20 + 0.30 * age + 0.40 * age.square())[:, None])
    pores = (0.35 + 0.9 * u[:, 24:30]) * (0.5 + 0.9 * age[:, None]) * torch.sign(z[:, 38:44])
    return {
        "clouds": z[:, :10], "flush": z[:, 10:15], "blush": 0.8 * z[:, 15:21], "tan": 0.7 * z[:, 21:27], "freckles": freckles,
        "spots": spots, "hair": torch.nn.functional.one_hot(hair, len(HAIR_STYLES)).float(),
        "brow": brow, "beard": _beard(u[:, 8], u[:, 9], u[:, 64:66], sex), "strand": 0.6 * z[:, 44:47],
        "pores": pores, "static": static, "socket": _sockets(u[:, 66:72], z[:, 55:56], age), **_mouth_tones(u[:, 72:77], melanin),
    }  # fmt: skip


#: Kinds of beard and the share of men that wear them; the others are shaved.  Weights of ``skin.BEARD_PARTS``.
_BEARDS: tuple[tuple[float, dict[str, float]], ...] = (
    (0.09, dict(moustache=1, chin=1, jaw=0.9, cheek=0.3, lip_edge=0.6)),
    (0.06, dict(moustache=1, chin=1, trimmed=1, lip_edge=0.4)),
    (0.07, dict(moustache=1, lip_edge=0.5)),
    (0.04, dict(moustache=0.9, droop=0.9, lip_edge=0.8)),
    (0.07, dict(moustache=0.9, chin=0.9, droop=0.9, patch=0.8)),
    (0.03, dict(chin=0.9, patch=0.9)),
)
_STUBBLE = dict(moustache=1.0, chin=1.0, jaw=0.9, cheek=0.5, lip_edge=0.5, droop=0.4)
_STUBBLE_SHARE = 0.36


def _beard(kind: Tensor, density: Tensor, shade: Tensor, sex: Tensor) -> Tensor:
    """Weights of the beard's parts (B, P) from uniforms ``kind``, ``density`` (B,) and ``shade`` (B, 2)."""
    names = list(BEARD_PARTS)
    worn = kind.new_zeros(len(kind), len(names))
    start = 0.0
    for share, parts in _BEARDS:
        row = worn.new_tensor([parts.get(name, 0.0) for name in names])
        worn = worn + ((kind >= start) & (kind < start + share)).float()[:, None] * row
        start += share
    worn = worn * (0.6 + 0.4 * density[:, None])
    stubble = worn.new_tensor([_STUBBLE.get(name, 0.0) for name in names])
    unshaved = ((kind >= start) & (kind < start + _STUBBLE_SHARE)).float() * (0.10 + 0.40 * density)
    shadow = 0.14 * shade[:, 0] * shade[:, 1]  # what a razor leaves
    return ((worn + (unshaved + shadow)[:, None] * stubble) * (sex > 0.15).float()[:, None]).clamp(0, 1)


def _sockets(u: Tensor, depth: Tensor, age: Tensor) -> Tensor:
    """Weights of ``skin.SOCKET_PARTS`` (B, 6): shade below the brow, deep-set eyes, a low or a high crease."""
    deep = (0.5 + 0.5 * depth[:, 0]).clamp(0, 1.6)
    crease = 0.25 + 0.75 * u[:, 2]
    below = 0.45 * u[:, 4] * (0.4 + 0.9 * age)
    frown = 0.25 * u[:, 5] * u[:, 0] * (0.4 + 0.8 * age)
    parts = [0.08 + 0.35 * deep, 0.30 * deep * u[:, 1], crease * u[:, 3], crease * (1 - u[:, 3]), below, frown]
    return torch.stack(parts, 1)


def _mouth_tones(u: Tensor, melanin: Tensor) -> dict[str, Tensor]:
    """Pigment and shade of the lips: dark lips, their outline, the line between them and its corners."""
    dark = torch.sigmoid(3.0 * (melanin - 1.0))
    tone = torch.stack(
        [0.25 * (u[:, 0] - 0.3) + 0.5 * dark * u[:, 0], 0.5 * dark * u[:, 1], 0.12 * u[:, 2] + 0.3 * dark * u[:, 2]], 1
    )
    shade = torch.stack([0.5 * u[:, 3], 0.8 * u[:, 4] ** 2], 1)
    return {"lip_tone": tone, "lip_shade": shade}


def _trait(u: Tensor, share: float) -> Tensor:
    """0 for most people, 0.35..1 for a ``share`` of them."""
    return torch.where(u < share, 0.35 + 0.65 * u / share, torch.zeros_like(u))


def sample_people(seed: int, subjects: Tensor, smooth_share: float = 0.0, spread: float = 1.0) -> People:
    """Identities for subject numbers (B,).

    ``smooth_share`` of them have skin that hardly wrinkles; ``spread`` scales how far faces differ in shape.
    """
    keys = key(seed, _PERSON, subjects)
    z = normal(keys, 160)
    u = uniform(keys + 1, 200)
    dimensions = len(MODES) + len(EXTRA_MODES)
    sex = (2.2 * (u[:, 0] - 0.5)).clamp(-1, 1)
    age = u[:, 1]
    shape = 1.02 * spread * z[:, :dimensions].clamp(-2.0, 2.0)
    names = list(MODES)
    inner = [
        name.startswith(("nose", "mouth", "upper_lip", "lower_lip", "eye", "brow", "asym"))
        for name in (*MODES, *EXTRA_MODES)
    ]
    shape = shape * torch.where(torch.tensor(inner, device=z.device), 1.18, 0.90)
    for name, slope in (
        ("jaw_width", 1.0),
        ("brow_ridge", 0.8),
        ("brow_height", -1.3),
        ("brow_slope", -0.9),
        ("chin_width", 0.5),
        ("nose_width", 0.3),
        ("upper_lip_thick", -0.4),
        ("lower_lip_thick", -0.3),
        ("neck_width", 0.9),
        ("face_length", 0.3),
    ):
        shape[:, names.index(name)] += slope * sex
    shape[:, names.index("jaw_width")] -= 0.35
    traits = torch.stack([_trait(u[:, 150 + i], 0.22) for i in range(len(TRAITS))], 1)
    melanin = 0.08 + 3.4 * u[:, 2] ** 2.2
    skin = _skin_weights(z[:, 80:144], u[:, 10:130], sex, age, melanin)
    old = (u[:, 3] < (age - 0.62) * 1.6).float()
    dark = torch.sigmoid(5.0 * (melanin - 0.7))
    pick = u[:, 4] * (1 - 0.75 * dark)
    hair_table, iris_table = z.new_tensor(_HAIR), z.new_tensor(_IRIS)
    colour = torch.bucketize((1 - pick).contiguous(), z.new_tensor([0.0, 0.34, 0.62, 0.80, 0.93, 2.0])) - 1
    colour = torch.where(
        pick > 0.55,
        torch.bucketize(pick.contiguous(), z.new_tensor([0.55, 0.72, 0.86, 0.95])),
        torch.where(pick > 0.25, 1, 0) + 0 * colour,
    )
    hair = hair_table[colour.clamp(0, 4)] * (0.75 + 0.5 * u[:, 5:6])
    hair = torch.lerp(hair, hair_table[5].expand_as(hair), (old * (0.3 + 0.6 * u[:, 6]))[:, None])
    iris_kind = (u[:, 7] * (1 - 0.9 * dark) * 4.999).long()
    iris = iris_table[iris_kind] * (0.75 + 0.6 * u[:, 8:9])
    female = (sex < -0.1).float()
    painted = female * (u[:, 9] < 0.55).float()
    lipstick = torch.stack(
        [0.30 + 0.25 * u[:, 130], 0.03 + 0.10 * u[:, 131], 0.06 + 0.12 * u[:, 132], painted * 0.65 * u[:, 133]], 1
    )
    lashes = torch.stack(
        [
            0.45 + 0.25 * dark + 0.30 * u[:, 134] * (0.4 + 0.6 * female),
            painted * 0.5 * u[:, 135],
            (0.68 + 0.32 * u[:, 186]) * (1 - 0.2 * old),
        ],
        1,
    )
    glasses = torch.stack(
        [(u[:, 136] < 0.10).float(), 23 + 4 * u[:, 137], 15 + 6 * u[:, 138], 0.7 + 1.3 * u[:, 139], u[:, 140]], 1
    )
    strength = (0.75 + 0.55 * u[:, 141]) * (0.85 + 0.5 * age)
    youth = uniform(keys + 5, 2)
    strength = torch.where(youth[:, 0] < smooth_share, 0.3 * youth[:, 1], strength)
    mix = u[:, 142 : 142 + 1].expand(-1, len(WRINKLED_AUS))
    mix = (0.5 * mix + 0.5 * uniform(keys + 2, len(WRINKLED_AUS))).clamp(0, 1)
    wrinkle = torch.stack([1 - mix, mix], 2).reshape(len(mix), -1) * strength[:, None]
    return People(
        shape=torch.cat([shape, traits], 1), melanin=melanin, blood=0.34 + 0.30 * u[:, 143], skin=skin, hair_colour=hair,
        cloth=0.02 + 0.5 * u[:, 182:185] * u[:, 185:186],
        hair_volume=5.0 + 9.0 * u[:, 144] + 8.0 * u[:, 145] * (skin["hair"][:, list(LONG_STYLES)].sum(1)), iris=iris, iris_phase=u[:, 146:150] * 6.283,
        gloss=0.25 + 0.75 * u[:, 180], lipstick=lipstick, lashes=lashes, glasses=glasses,
        amplitude=0.80 + 0.35 * uniform(keys + 3, NUM_AUS), asymmetry=0.09 * normal(keys + 4, NUM_AUS).clamp(-2, 2),
        gamma=0.85 + 0.35 * u[:, 181:182], wrinkle=wrinkle,
    )  # fmt: skip


def sample_scenes(seed: int, subjects: Tensor, scenes: Tensor) -> Scenes:
    """Scenes for subject and scene numbers (B,) each."""
    keys = key(seed, _SCENE, subjects, scenes)
    u, z = uniform(keys, 40), normal(keys + 1, 8)
    side, height = (u[:, 0] * 2 - 1) * math.radians(65), torch.deg2rad(2 + 52 * u[:, 1])
    light = torch.stack([side.sin() * height.cos(), height.sin(), side.cos() * height.cos()], 1)
    warm = torch.stack([1.0 + 0.14 * z[:, 0], torch.ones_like(side), 1.0 - 0.16 * z[:, 0]], 1).clamp(0.6, 1.4)
    soft = u[:, 2]  # 0: hard sun, 1: overcast
    strength = 2.1 * (1 - 0.72 * soft)
    ambient = 0.34 + 0.75 * soft
    cool = torch.stack([1.0 + 0.10 * z[:, 1], torch.ones_like(side), 1.0 - 0.10 * z[:, 1]], 1).clamp(0.65, 1.35)
    ground = cool * (0.30 + 0.45 * u[:, 3:4]) * (1 + 0.12 * z[:, 2:5])
    wall = u[:, 8:11] * u[:, 11:12] * 0.9 + 0.05
    grey = wall.mean(1, keepdim=True)
    wall = grey + (wall - grey) * (0.15 + 0.55 * u[:, 12:13])
    patches = normal(keys + 2, 3 * 64).reshape(-1, 3, 64)
    patches = 0.16 * patches + 1.5 * patches.mean(1, keepdim=True)
    spread = (0.04 + 0.55 * u[:, 13] ** 2)[:, None, None]
    background = (wall[:, :, None] * (spread * patches).exp()).reshape(-1, 3, 8, 8)
    jitter = torch.stack([0.016 * z[:, 5], 0.014 * z[:, 6], 0.035 * z[:, 7]], 1).clamp(-0.06, 0.06)
    return Scenes(
        light=light, key=warm * strength[:, None], sky=cool * ambient[:, None], ground=ground * ambient[:, None],
        fill=warm * (0.12 + 0.30 * u[:, 4:5]), distance=520 + 900 * u[:, 5], jitter=jitter, exposure=0.78 + 0.36 * u[:, 6],
        background=background, contrast=0.9 + 0.25 * u[:, 7],
    )  # fmt: skip


def sample_aus(keys: Tensor, focus: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """AU intensities (B, 19) and the emotion (B,), -1 where no prototype was drawn.

    A seventh are neutral; the others are single AUs, mixtures of two to four, or emotion prototypes.  AUs of ``focus``
    are then drawn on their own (uniform 0..5 for two thirds of the frames).
    """
    u = uniform(keys, 6 + 4 * NUM_AUS)
    kind, level = u[:, 0], u[:, 6 : 6 + NUM_AUS]
    order = u[:, 6 + NUM_AUS : 6 + 2 * NUM_AUS]
    rank = order.argsort(1).argsort(1)
    number = torch.where(kind < 0.42, 1, 2 + (u[:, 1] * 3).long())
    au = torch.where(rank < number[:, None], 0.3 + 4.7 * level, torch.zeros_like(level))
    table = torch.zeros(len(EMOTIONS), NUM_AUS, device=keys.device)
    for index, name in enumerate(EMOTIONS):
        for au_number, value in EMOTION_PROTOTYPES[name].items():
            table[index, AU_INDEX[au_number]] = value
    emotion = 1 + (u[:, 2] * (len(EMOTIONS) - 1)).long()
    acted = table[emotion] * (0.35 + 0.9 * u[:, 3:4]) * (0.7 + 0.6 * level)
    neutral, posed = kind < 0.14, kind > 0.70
    au = torch.where(posed[:, None], acted, au)
    au = torch.where(neutral[:, None], torch.zeros_like(au), au)
    emotion = torch.where(posed, emotion, torch.where(neutral, 0, -1))
    chance, fresh = u[:, 6 + 2 * NUM_AUS : 6 + 3 * NUM_AUS], u[:, 6 + 3 * NUM_AUS :]
    for au_number in focus:
        column = AU_INDEX[au_number]
        drawn = chance[:, column] < 0.66
        au[:, column] = torch.where(drawn, 5.0 * fresh[:, column], torch.zeros_like(level[:, column]))
        emotion = torch.where(drawn, -1, emotion)
    return _plausible(au.clamp(0, 5)), emotion


def _plausible(au: Tensor) -> Tensor:
    """Drop what cannot happen together: pressed and parted lips, wide and closed eyes, two jaw drops."""
    i = AU_INDEX
    au = au.clone()
    au[:, i[26]] *= au[:, i[27]] < 0.3
    open_mouth = (au[:, i[26]] + au[:, i[27]]) > 0.3
    au[:, i[25]] = torch.where(
        open_mouth, torch.maximum(au[:, i[25]], torch.maximum(au[:, i[26]], au[:, i[27]])), au[:, i[25]]
    )
    for pressed in (23, 24):
        au[:, i[pressed]] *= au[:, i[25]] < 0.3
    au[:, i[43]] *= au[:, i[5]] < 0.3
    return au


def gaze_towards_camera(pose: Tensor) -> Tensor:
    """How far the eyes turn back to the camera when the head turns by ``pose`` (B, 3): degrees right, up (B, 2)."""
    return pose[:, :2] * pose.new_tensor([-0.35, 0.3])


def sample_frames(seed: int, subjects: Tensor, frames: Tensor, focus: tuple[int, ...], yaw_limit: float) -> Frames:
    """Frames for subject and frame numbers (B,) each."""
    keys = key(seed, _FRAME, subjects, frames)
    u, z = uniform(keys, 16), normal(keys + 1, 4)
    yaw = (u[:, 0] * 2 - 1) * yaw_limit
    pose = torch.stack([yaw, (0.36 * yaw_limit * z[:, 0]).clamp(-0.72 * yaw_limit, 0.72 * yaw_limit), 4.0 * z[:, 1]], 1)
    au, emotion = sample_aus(keys + 2, focus)
    gaze = (torch.stack([5.0 * z[:, 2], 3.0 * z[:, 3]], 1) + gaze_towards_camera(pose)).clamp(-24, 24)
    return Frames(
        pose=pose, au=au, emotion=emotion, gaze=gaze, blur=0.30 + 0.45 * u[:, 4] ** 2, noise=0.004 + 0.016 * u[:, 5] ** 2,
        quality=70 + 28 * u[:, 6], noise_key=key(seed, _NOISE, subjects, frames),
    )  # fmt: skip
