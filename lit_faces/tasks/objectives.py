"""What the generator and the discriminator minimise, term by term."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from lit_faces.losses.action_units import masked_mse
from lit_faces.losses.adversarial import feature_matching, hinge_discriminator, hinge_generator, r1_penalty
from lit_faces.losses.reconstruction import feature_distance, flow_smoothness, gradient_pyramid, weighted_l1
from lit_faces.models.discriminators import MultiScaleDiscriminator, Request, Verdict
from lit_faces.models.generators.output import GeneratorOutput
from lit_faces.tasks.critic import AUCritic
from lit_faces.tasks.pairs import Example

_JUDGED = ("adversarial", "features", "au")


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses; 0 leaves a term out.

    Attributes:
        l1: L1 to the target frame.
        changed: how many times more a pixel counts where AUs change (added to 1).
        gradient: gradient pyramid to the target frame.
        warp: L1 of the warped picture, which teaches the residual flow.
        adversarial: hinge loss; small, since supervision is paired.
        features: feature matching in the discriminator.
        au: AU consistency, read by the discriminator.
        sparsity: mean attention, once the AU loss has fallen by a tenth (never without a discriminator).
        smooth: roughness of the residual flow.
        identity: 1 - cosine of the identity network's features.
        r1: the discriminator's gradient penalty; 0 leaves it to its spectral norm.
        critic: distance of the AU critic's features of generated and real frame.
        critic_au: squared distance of the AUs that the critic reads on both.
    """

    l1: float = 1.0
    changed: float = 4.0
    gradient: float = 1.0
    warp: float = 0.3
    adversarial: float = 0.01
    features: float = 0.05
    au: float = 0.2
    sparsity: float = 0.005
    smooth: float = 0.01
    identity: float = 0.0
    r1: float = 0.0
    critic: float = 0.1
    critic_au: float = 1.0

    def total(self, losses: dict[str, Tensor], judged: float = 1.0) -> Tensor:
        """The weighted sum of terms by name; ``judged`` scales those that the discriminator gives."""
        factors = {name: judged if name in _JUDGED else 1.0 for name in losses}
        weights = asdict(self)
        return torch.stack([factors[name] * weights[name] * value for name, value in losses.items()]).sum()


DEFAULT_WEIGHTS = LossWeights()


def reconstruction_terms(weights: LossWeights, example: Example, output: GeneratorOutput) -> dict[str, Tensor]:
    """The generator's terms that need no other network, unweighted; those of weight 0 are left out."""
    losses = {}
    if weights.l1:
        losses["l1"] = weighted_l1(output.image, example.target, example.weight)
    if weights.gradient:
        losses["gradient"] = gradient_pyramid(output.image, example.target, example.weight)
    if output.residual_flow is not None:
        if weights.warp and output.warped is not None:
            losses["warp"] = weighted_l1(output.warped, example.target, example.weight)
        if weights.smooth:
            losses["smooth"] = flow_smoothness(output.residual_flow)
    return losses


def adversarial_terms(weights: LossWeights, fake: Verdict, real: Verdict, target_au: Tensor) -> dict[str, Tensor]:
    """The generator's terms that the discriminator gives, unweighted; those of weight 0 are left out."""
    losses = {}
    if weights.adversarial:
        losses["adversarial"] = hinge_generator(fake.logits)
    if weights.features:
        losses["features"] = feature_matching(real.features, fake.features)
    if weights.au:
        losses["au"] = masked_mse(fake.au, target_au)
    return losses


def identity_term(weights: LossWeights, network: nn.Module | None, image: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Distance of a frozen network's features, where there is one."""
    if network is None or not weights.identity:
        return {}
    return {"identity": feature_distance(network, image, target)}


def critic_terms(weights: LossWeights, critic: AUCritic | None, image: Tensor, target: Tensor) -> dict[str, Tensor]:
    """What the frozen AU critic sees otherwise than on the real frame, unweighted."""
    if critic is None or not (weights.critic or weights.critic_au):
        return {}
    features, au = critic.distances(image, target)
    return {"critic": features, "critic_au": au}


def discriminator_terms(
    weights: LossWeights,
    network: MultiScaleDiscriminator,
    request: Request,
    real: Tensor,
    fake: Tensor,
    target_au: Tensor,
) -> tuple[dict[str, Tensor], Tensor, Verdict]:
    """The discriminator's terms, their sum, and its verdict on the real frames.

    Real and generated pictures go through it as one batch. The AU regression learns from real frames only.
    """
    if weights.r1:
        real = real.detach().requires_grad_()
    both = network(torch.cat([real, fake.to(real.dtype)]), request.twice())
    verdict, judged = both.split(len(real))
    losses = {
        "discriminator": hinge_discriminator(verdict.logits, judged.logits),
        "discriminator_au": masked_mse(verdict.au, target_au),
    }
    total = losses["discriminator"] + losses["discriminator_au"]
    if weights.r1:
        losses["discriminator_r1"] = r1_penalty(verdict.logits, real)
        total = total + 0.5 * weights.r1 * losses["discriminator_r1"]
    return losses, total, verdict
